#include "resolve/resolver.hpp"

#include <sched.h>

#include <algorithm>

#include "kernel/error.hpp"

namespace uffd {

namespace {

const char* remedy(int error, MemoryType memory) {
  switch (error) {
    case ENOMEM:
    case ENOSPC:
      return memory == MemoryType::hugetlb
                 ? ": no huge page is free for it; raise vm.nr_hugepages or choose a smaller memory.region_mib"
                 : ": the VMM process's memory cgroup or the host is out of memory; raise the limit or choose a smaller "
                   "memory.region_mib";
    case ENOENT: return ": the range is not registered with this userfaultfd";
    case EFAULT: return ": the contents are not in memory";
    default: return "";
  }
}

}  // namespace

Resolver::Resolver(std::vector<Shard> shards, PageRecord record, const GuestConfig& guest, std::uint32_t fault_around,
                   const Guest* shared)
    : shards_(std::move(shards)),
      record_(record),
      memory_(guest.memory),
      page_bytes_(guest.page_bytes),
      around_(fault_around),
      shared_(shared),
      drops_(guest.drops) {
  std::sort(shards_.begin(), shards_.end(), [](const Shard& a, const Shard& b) { return a.first_page < b.first_page; });
  units_ = std::any_of(shards_.begin(), shards_.end(), [](const Shard& shard) { return shard.unit != 1; });
  const Shard& last = shards_.back();
  const std::uint64_t pages = last.first_page + last.pages - shards_.front().first_page;
  shards_per_page_ = static_cast<double>(shards_.size()) / static_cast<double>(pages);
}

[[gnu::hot]] const Shard& Resolver::shard_of(std::uint64_t page) const noexcept {
  // Shards of a VMM process are of one size, so the guess is right or next to it; a page before all of them is in none.
  const std::size_t last = shards_.size() - 1;
  if (last == 0 || page < shards_.front().first_page) return shards_.front();
  const double offset = static_cast<double>(page - shards_.front().first_page);
  std::size_t at = std::min(static_cast<std::size_t>(offset * shards_per_page_), last);
  while (page < shards_[at].first_page) --at;
  while (at != last && page >= shards_[at + 1].first_page) ++at;
  return shards_[at];
}

bool Resolver::covers(std::uint64_t page) const noexcept {
  const Shard& shard = shard_of(page);
  return page - shard.first_page < shard.pages;
}

// Its pages change their state together: a claim of the first is a claim of all.
PageRun Resolver::claim_unit(const PageRun& unit, std::uint8_t claim) const noexcept {
  if (!record_.claim(unit.first, claim)) return {unit.first, 0};
  for (std::uint32_t i = 1; i < unit.count; ++i) record_.claim(unit.first + i, claim);
  return unit;
}

[[gnu::hot]] PageRun Resolver::claim(std::uint64_t page, std::uint8_t claim) const noexcept {
  if (units_) [[unlikely]]
    if (const PageRun unit = unit_of(page); unit.count != 1) return claim_unit(unit, claim);
  if (around_ == 1) return {page, record_.claim(page, claim)};
  const Shard& shard = shard_of(page);
  const std::uint64_t block = page / around_ * around_;
  return record_.claim_around(page, std::max(block, shard.first_page), std::min(block + around_, shard.first_page + shard.pages),
                              claim);
}

void Resolver::release(const PageRun& run) const noexcept {
  record_.release_run(run);
  if (run.count != 0) settled(run);
}

PageRun Resolver::claim_onwards(std::uint64_t page, std::uint64_t end, std::uint8_t claim) const noexcept {
  const Shard& shard = shard_of(page);
  if (shard.unit != 1) return claim_unit({page, shard.unit}, claim);
  return {page, record_.claim_onwards(page, std::min(end, shard.first_page + shard.pages), claim)};
}

void Resolver::release_rest(const PageRun& run, const PageRun& kept) const noexcept {
  const std::uint64_t end = kept.first + kept.count;
  release({run.first, static_cast<std::uint32_t>(kept.first - run.first)});
  release({end, static_cast<std::uint32_t>(run.first + run.count - end)});
}

[[gnu::hot]] Outcome Resolver::map(const Shard& shard, std::uint64_t page, std::uint32_t count, const std::byte* from,
                                   const Install& how) const noexcept {
  const std::uint64_t at = address_of(shard, page);
  const std::uint64_t length = count * page_bytes_;
  if (how.zero) return shard.uffd->zeropage(at, length, how.wake);
  if (memory_ == MemoryType::anon) return shard.uffd->copy(at, reinterpret_cast<std::uint64_t>(from), length, how.wake);
  return shard.uffd->resume(at, length, how.wake);
}

[[gnu::hot]] Installed Resolver::install(const PageRun& run, const Install& how, Counters& counters) const noexcept {
  const Shard& shard = shard_of(run.first);
  const int most_tries = how.tries == 0 ? kTries : how.tries;
  Installed installed;
  int tries = 0;
  for (std::uint32_t at = 0; at < run.count;) {
    const std::byte* source = how.from == nullptr ? nullptr : how.from + at * page_bytes_;
    const Outcome outcome = map(shard, run.first + at, run.count - at, source, how);
    const auto done = static_cast<std::uint32_t>(static_cast<std::uint64_t>(outcome.done) / page_bytes_);
    settle_mapped({run.first + at, done}, how, installed);
    at += done;
    if (outcome.error == 0) break;
    if (done > 0) ++counters[Counter::partial];
    if (outcome.error == EEXIST) {
      settle_lost({run.first + at, shard.unit}, how, installed, counters);
      at += shard.unit;
      continue;
    }
    installed.end = end_of(outcome.error, counters);
    if (installed.end == Installed::End::changing) {
      if (done == 0) {
        ++counters[Counter::eagain_changing];
        if (++tries < most_tries) sched_yield();
      }
      if (tries < most_tries) {
        installed.end = Installed::End::mapped;
        continue;
      }
    }
    installed.error = outcome.error;
    installed.settled = at;
    installed.call = how.zero ? "UFFDIO_ZEROPAGE" : memory_ == MemoryType::anon ? "UFFDIO_COPY" : "UFFDIO_CONTINUE";
    settle_rest({run.first + at, run.count - at}, how.known, installed.end);
    break;
  }
  if (installed.end == Installed::End::mapped) installed.settled = run.count;
  if (how.known == Known::claimed) settled(run);
  return installed;
}

Installed::End Resolver::end_of(int error, Counters& counters) const noexcept {
  switch (error) {
    case EAGAIN: ++counters[Counter::eagain]; return Installed::End::changing;
    case EFAULT: ++counters[Counter::efault]; return drops_ ? Installed::End::gone : Installed::End::refused;
    case ESRCH: ++counters[Counter::esrch]; return Installed::End::vanished;
    default: return Installed::End::refused;
  }
}

[[gnu::hot]] void Resolver::settle_mapped(const PageRun& part, const Install& how, Installed& installed) const noexcept {
  installed.pages += part.count;
  installed.wanted |= how.wanted - part.first < part.count;
  const auto settled = [&](const PageRun& pages, bool again) {
    if (again)
      installed.again += pages.count;
    else
      installed.first += shared_ == nullptr ? pages.count : shared_->first_resolved(pages);
  };
  switch (how.known) {
    case Known::claimed:
      if (how.enter_stage2) return record_.settle_run<PageMove::resolve, PageMove::enter_stage2>(part, settled);
      return record_.settle_run<PageMove::resolve>(part, settled);
    case Known::resolved_before: return settled(part, true);
    case Known::not_asked:
      for (std::uint32_t i = 0; i < part.count; ++i) record_.resolve_unasked(part.first + i);
      return settled(part, false);
  }
}

// Mapped already: a thread that fell asleep on it before must be woken.
void Resolver::settle_lost(const PageRun& unit, const Install& how, Installed& installed, Counters& counters) const noexcept {
  ++counters[Counter::eexist];
  installed.lost = true;
  for (std::uint64_t page = unit.first; page < unit.first + unit.count; ++page) {
    if (how.known == Known::claimed && record_.find_mapped(page) && how.enter_stage2) record_.enter_stage2(page);
    if (how.known == Known::not_asked) record_.resolve_unasked(page);
  }
  if (how.wake) wake(unit.first, counters);
}

void Resolver::settle_rest(const PageRun& rest, Known known, Installed::End end) const noexcept {
  if (known == Known::claimed) release(rest);
  if (known == Known::resolved_before && end == Installed::End::gone)
    for (std::uint32_t i = 0; i < rest.count; ++i) record_.discard(rest.first + i);  // no event names it, but it is gone
}

Installed Resolver::poison(std::uint64_t page, bool wake, Counters& counters, int most_tries) const noexcept {
  const Shard& shard = shard_of(page);
  const std::uint64_t at = address_of(shard, page);
  Outcome outcome = shard.uffd->poison(at, page_bytes_, false);
  for (int tries = 1; outcome.error == EAGAIN; ++tries) {
    ++counters[Counter::eagain_changing];
    if (tries >= most_tries) break;
    ++counters[Counter::eagain];
    sched_yield();
    outcome = shard.uffd->poison(at, page_bytes_, false);
  }
  Installed installed{.error = outcome.error, .call = "UFFDIO_POISON"};
  if (outcome.error == 0) {
    installed.pages = 1;
    installed.wanted = true;
    ++counters[Counter::pages_poisoned];
    record_.poison(page);
    if (wake) shard.uffd->wake(at, page_bytes_);  // only now: a sleeper woken before the record is set exits once more
  } else {
    record_.release(page);
    if (outcome.error != EEXIST) {
      installed.end = end_of(outcome.error, counters);
    } else {
      ++counters[Counter::eexist];
      installed.lost = true;
      if (wake) this->wake(page, counters);
    }
  }
  settled({page, 1});
  return installed;
}

void Resolver::wake(std::uint64_t page, Counters& counters) const noexcept {
  const Shard& shard = shard_of(page);
  ++counters[Counter::wakes];
  shard.uffd->wake(address_of(shard, shard.unit_of(page)), shard.unit * page_bytes_);
}

std::string Resolver::refusal(const PageRun& run, const Installed& installed) const {
  const std::string pages = run.count == 1 ? "page " : std::to_string(run.count) + " pages from page ";
  const std::string what = std::string(installed.call) + " of " + pages + std::to_string(run.first);
  return KernelError(what, installed.error, address_of(shard_of(run.first), run.first), run.count * page_bytes_).what() +
         std::string(remedy(installed.error, memory_));
}

}  // namespace uffd
