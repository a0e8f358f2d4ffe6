#include "resolve/resolver.hpp"

#include <sched.h>

#include <algorithm>

namespace uffd {

[[gnu::hot]] const Shard& Resolver::shard_of(std::uint64_t page) const noexcept {
  for (const Shard& shard : shards_)
    if (page - shard.first_page < shard.pages) return shard;
  return shards_.back();
}

[[gnu::hot]] PageRun Resolver::claim(std::uint64_t page, std::uint8_t claim) const noexcept {
  if (!record_.claim(page, claim)) return {page, 0};
  if (around_ == 1) return {page, 1};
  const Shard& shard = shard_of(page);
  const std::uint64_t block = page / around_ * around_;
  const std::uint64_t low = std::max(block, shard.first_page);
  const std::uint64_t high = std::min(block + around_, shard.first_page + shard.pages);
  std::uint64_t first = page;
  std::uint64_t end = page + 1;
  while (first > low && record_.claim(first - 1, claim)) --first;
  while (end < high && record_.claim(end, claim)) ++end;
  return {first, static_cast<std::uint32_t>(end - first)};
}

void Resolver::release(const PageRun& run) const noexcept {
  for (std::uint32_t i = 0; i < run.count; ++i) record_.release(run.first + i);
}

PageRun Resolver::claim_onwards(std::uint64_t page, std::uint64_t end, std::uint8_t claim) const noexcept {
  const Shard& shard = shard_of(page);
  end = std::min(end, shard.first_page + shard.pages);
  std::uint64_t last = page;
  while (last < end && record_.claim(last, claim)) ++last;
  return {page, static_cast<std::uint32_t>(last - page)};
}

void Resolver::release_rest(const PageRun& run, const PageRun& kept) const noexcept {
  const std::uint64_t end = kept.first + kept.count;
  release({run.first, static_cast<std::uint32_t>(kept.first - run.first)});
  release({end, static_cast<std::uint32_t>(run.first + run.count - end)});
}

bool Resolver::covers(std::uint64_t page) const noexcept {
  return std::any_of(shards_.begin(), shards_.end(),
                     [page](const Shard& shard) { return page - shard.first_page < shard.pages; });
}

[[gnu::hot]] Outcome Resolver::map(const Shard& shard, std::uint64_t page, std::uint32_t count, const std::byte* from,
                                   bool wake) const noexcept {
  const std::uint64_t at = shard.address + (page - shard.first_page) * page_bytes_;
  const std::uint64_t length = count * page_bytes_;
  if (memory_ == MemoryType::anon) return shard.uffd->copy(at, reinterpret_cast<std::uint64_t>(from), length, wake);
  return shard.uffd->resume(at, length, wake);
}

[[gnu::hot]] Resolver::Installed Resolver::install(const PageRun& run, const std::byte* from, bool wake, Counters& counters,
                                                   int again_tries) const noexcept {
  const Shard& shard = shard_of(run.first);
  Installed installed;
  int tries = 0;
  for (std::uint32_t at = 0; at < run.count;) {
    const std::byte* source = from == nullptr ? nullptr : from + at * page_bytes_;
    const Outcome outcome = map(shard, run.first + at, run.count - at, source, wake);
    const auto done = static_cast<std::uint32_t>(static_cast<std::uint64_t>(outcome.done) / page_bytes_);
    for (const std::uint32_t end = at + done; at < end; ++at) {
      installed.again += record_.was_discarded(run.first + at);
      record_.set(run.first + at, PageState::resolved);
    }
    installed.pages += done;
    if (outcome.error == 0) break;
    if (done > 0) ++counters[Counter::partial];
    switch (outcome.error) {
      case EEXIST:  // mapped already: skip it, and wake whoever fell asleep before it was
        ++counters[Counter::eexist];
        installed.lost = true;
        record_.found_mapped(run.first + at);
        if (wake) this->wake(run.first + at, counters);
        ++at;
        continue;
      case EAGAIN:
        ++counters[Counter::eagain];
        if (done > 0) continue;
        ++counters[Counter::eagain_changing];
        if (++tries < again_tries) {
          sched_yield();
          continue;
        }
        break;
      case EFAULT: ++counters[Counter::efault]; break;
      case ESRCH: ++counters[Counter::esrch]; break;
      default: break;
    }
    installed.error = outcome.error;
    release({run.first + at, run.count - at});
    break;
  }
  return installed;
}

Resolver::Installed Resolver::install_again(std::uint64_t page, const std::byte* from, bool wake,
                                            Counters& counters) const noexcept {
  const Outcome outcome = map(shard_of(page), page, 1, from, wake);
  if (outcome.error == 0) return {1, false, 0};
  if (outcome.error == EEXIST) {
    ++counters[Counter::eexist];
    if (wake) this->wake(page, counters);
    return {0, true, 0};
  }
  if (outcome.error == EAGAIN) {
    ++counters[Counter::eagain];
    ++counters[Counter::eagain_changing];
  }
  if (outcome.error == EFAULT) ++counters[Counter::efault];
  if (outcome.error == ESRCH) ++counters[Counter::esrch];
  return {0, false, outcome.error};
}

Resolver::Installed Resolver::install_blindly(std::uint64_t page, const std::byte* from, Counters& counters) const noexcept {
  const Installed installed = install_again(page, from, false, counters);
  if (installed.error == 0) record_.set(page, PageState::resolved);
  return installed;
}

int Resolver::poison(std::uint64_t page, bool wake, Counters& counters) const noexcept {
  const Shard& shard = shard_of(page);
  const std::uint64_t at = shard.address + (page - shard.first_page) * page_bytes_;
  Outcome outcome = shard.uffd->poison(at, page_bytes_, false);
  for (int tries = 0; outcome.error == EAGAIN && tries < kAgainTries; ++tries) {
    ++counters[Counter::eagain];
    ++counters[Counter::eagain_changing];
    sched_yield();
    outcome = shard.uffd->poison(at, page_bytes_, false);
  }
  if (outcome.error == EEXIST) ++counters[Counter::eexist];
  if (outcome.error == ESRCH) ++counters[Counter::esrch];
  if (outcome.error == 0) ++counters[Counter::pages_poisoned];
  if (outcome.error == 0)
    record_.set(page, PageState::poisoned);
  else
    record_.release(page);
  // Only now: who is woken before the record is told exits once more for nothing.
  if (wake && outcome.error == 0) shard.uffd->wake(at, page_bytes_);
  return outcome.error;
}

void Resolver::wake(std::uint64_t page, Counters& counters) const noexcept {
  const Shard& shard = shard_of(page);
  ++counters[Counter::wakes];
  shard.uffd->wake(shard.address + (page - shard.first_page) * page_bytes_, page_bytes_);
}

}  // namespace uffd
