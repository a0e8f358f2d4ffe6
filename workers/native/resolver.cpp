#include "resolver.hpp"

#include <sched.h>

#include <algorithm>

namespace uffd {

namespace {

// EAGAIN lasts as long as somebody changes the address space or leaves a remove event unread; both end, so try on for a
// while, but not for ever: the watchdog's business begins where this ends.
constexpr int kAgainTries = 100'000;

}  // namespace

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

PageRun Resolver::claim_onwards(std::uint64_t page, std::uint64_t end, std::uint8_t claim) const noexcept {
  const Shard& shard = shard_of(page);
  end = std::min(end, shard.first_page + shard.pages);
  std::uint64_t last = page;
  while (last < end && record_.claim(last, claim)) ++last;
  return {page, static_cast<std::uint32_t>(last - page)};
}

[[gnu::hot]] void Resolver::release(const PageRun& run, PageState state) const noexcept {
  for (std::uint32_t i = 0; i < run.count; ++i) record_.set(run.first + i, state);
}

void Resolver::release_rest(const PageRun& run, const PageRun& kept) const noexcept {
  const std::uint64_t end = kept.first + kept.count;
  release({run.first, static_cast<std::uint32_t>(kept.first - run.first)}, PageState::unresolved);
  release({end, static_cast<std::uint32_t>(run.first + run.count - end)}, PageState::unresolved);
}

bool Resolver::covers(std::uint64_t page) const noexcept {
  return std::any_of(shards_.begin(), shards_.end(),
                     [page](const Shard& shard) { return page - shard.first_page < shard.pages; });
}

[[gnu::hot]] Outcome Resolver::map(const Shard& shard, std::uint64_t page, std::uint32_t count, const std::byte* from,
                      bool wake) const noexcept {
  const std::uint64_t at = shard.address + (page - shard.first_page) * page_bytes_;
  const std::uint64_t length = count * page_bytes_;
  if (memory_ == MemoryType::anon)
    return shard.uffd->copy(at, reinterpret_cast<std::uint64_t>(from), length, wake);
  return shard.uffd->resume(at, length, wake);
}

[[gnu::hot]] Resolver::Installed Resolver::install(const PageRun& run, const std::byte* from, bool wake,
                                      Counters& counters) const noexcept {
  const Shard& shard = shard_of(run.first);
  Installed installed;
  int tries = 0;
  for (std::uint32_t at = 0; at < run.count;) {
    const std::byte* source = from == nullptr ? nullptr : from + at * page_bytes_;
    const Outcome outcome = map(shard, run.first + at, run.count - at, source, wake);
    const auto done = static_cast<std::uint32_t>(static_cast<std::uint64_t>(outcome.done) / page_bytes_);
    release({run.first + at, done}, PageState::resolved);
    installed.pages += done;
    at += done;
    if (outcome.error == 0) break;
    if (done > 0) ++counters[Counter::partial];
    switch (outcome.error) {
      case EEXIST:  // mapped already: skip it, and wake whoever fell asleep before it was
        ++counters[Counter::eexist];
        installed.lost = true;
        record_.set(run.first + at, PageState::resolved);
        if (wake) this->wake(run.first + at, counters);
        ++at;
        continue;
      case EAGAIN:
        ++counters[Counter::eagain];
        if (done == 0 && ++tries < kAgainTries) {
          sched_yield();
          continue;
        }
        if (done > 0) continue;
        break;
      case EFAULT:
        ++counters[Counter::efault];
        break;
      case ESRCH:
        ++counters[Counter::esrch];
        break;
      default:
        break;
    }
    installed.error = outcome.error;
    release({run.first + at, run.count - at}, PageState::unresolved);
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
  if (outcome.error == EAGAIN) ++counters[Counter::eagain];
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
  Outcome outcome = shard.uffd->poison(at, page_bytes_, wake);
  for (int tries = 0; outcome.error == EAGAIN && tries < kAgainTries; ++tries) {
    ++counters[Counter::eagain];
    sched_yield();
    outcome = shard.uffd->poison(at, page_bytes_, wake);
  }
  if (outcome.error == EEXIST) ++counters[Counter::eexist];
  if (outcome.error == ESRCH) ++counters[Counter::esrch];
  if (outcome.error == 0) ++counters[Counter::pages_poisoned];
  record_.set(page, outcome.error == 0 ? PageState::poisoned : PageState::unresolved);
  return outcome.error;
}

void Resolver::wake(std::uint64_t page, Counters& counters) const noexcept {
  const Shard& shard = shard_of(page);
  ++counters[Counter::wakes];
  shard.uffd->wake(shard.address + (page - shard.first_page) * page_bytes_, page_bytes_);
}

}  // namespace uffd
