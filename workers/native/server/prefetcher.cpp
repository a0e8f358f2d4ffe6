#include "server/prefetcher.hpp"

#include <algorithm>
#include <memory>

#include "kernel/error.hpp"
#include "resolve/poison.hpp"
#include "server/due_work.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kMarks = 256;
constexpr double kCatchUpNs = 100'000'000;  // how far it may lag behind its rate and still make up for it
constexpr int kTries = 100;                 // of a block that cannot be installed for now
constexpr double kBytesPerMib = 1 << 20;

}  // namespace

Prefetcher::Prefetcher(ServerState& server, ThreadInfo& thread, std::uint32_t number, std::vector<PrefetchMark>& marks)
    : server_(server),
      guest_(server.guest),
      config_(server.config.prefetch),
      counters_(*thread.counters),
      marks_(marks),
      pages_(server.guest.pages()),
      in_order_(config_.name == "order"),
      delay_(server.config.delay_us, server.config.delay_exponential, server.config.seed + number) {
  const MemoryType memory = guest_.config().memory;
  if (server.mapped() == nullptr && (memory == MemoryType::anon || memory == MemoryType::file))
    staging_.resize(config_.batch_pages * guest_.config().page_bytes);
  marks_.reserve(2 * kMarks);
}

void Prefetcher::serve() {
  if (!wait_for_start()) return;
  const Clock& clock = Clock::get();
  const double page_bytes = static_cast<double>(guest_.config().page_bytes);
  Ticks due = clock.now();
  for (std::uint64_t at = 0; at < size() && !over();) {
    const PageRun run = next_run(at);
    if (run.count == 0) continue;
    if (!sleep_until(due)) break;
    if (config_.mib_per_s > 0.0)
      due = std::max(due, clock.now() - clock.from_ns(kCatchUpNs)) +
            clock.from_ns(run.count * page_bytes / (config_.mib_per_s * kBytesPerMib) * 1e9);
    if (!delay_.none() && !server_.source->complete(run) && !sleep_until(clock.now() + clock.from_ns(delay_.next_ns()))) break;
    if (!bring(run)) break;
    if (guest_.config().memory == MemoryType::file) count_brought(run, run.count);
    for (const auto& peer : server_.peers) install(*peer, run);
    mark(false);
  }
  mark(true);
}

/// The next batch from `at` on, which it moves past it; empty when the page at `at` is not wanted.
PageRun Prefetcher::next_run(std::uint64_t& at) const {
  PageRun run{page_at(at++), 0};
  if (const PageRun unit = unit_of(run.first); unit.count != 1) return next_unit(unit, run.first, at);
  if (!wanted(run.first)) {
    counters_[Counter::prefetch_skipped] += !poisoned_at_source(guest_, run.first);
    return run;
  }
  run.count = 1;
  while (at < size() && run.count < config_.batch_pages && page_at(at) == run.first + run.count && wanted(page_at(at)) &&
         unit_of(page_at(at)).count == 1) {
    ++run.count;
    ++at;
  }
  return run;
}

/// The unit around `page`: it is brought alone. In order its pages after the first are passed over.
PageRun Prefetcher::next_unit(const PageRun& unit, std::uint64_t page, std::uint64_t& at) const {
  if (in_order_) at += unit.count - 1;
  if (wanted(unit.first)) return unit;
  if (page == unit.first) counters_[Counter::prefetch_skipped] += unit.count;
  return {unit.first, 0};
}

PageRun Prefetcher::unit_of(std::uint64_t page) const noexcept {
  return server_.mapped() == nullptr ? PageRun{page, 1} : server_.peers.front()->resolver().unit_of(page);
}

bool Prefetcher::wait_for_start() const {
  if (server_.mapped() != nullptr) return !over();  // a foreign VMM is under way
  FutexWord& released = guest_.header().released;
  while (released.load(std::memory_order_acquire) == 0) {
    if (over()) return false;
    futex_wait(released, 0, kStopPollNs);
  }
  return true;
}

// What comes after the last vCPU has ended is no part of the run.
bool Prefetcher::over() const noexcept {
  return server_.stops() || guest_.stopping() || guest_.header().ended.load(std::memory_order_acquire) >= guest_.config().vcpus;
}

bool Prefetcher::wanted(std::uint64_t page) const noexcept {
  if (poisoned_at_source(guest_, page)) return false;
  return server_.peers.empty() || std::any_of(server_.peers.begin(), server_.peers.end(), [page](const auto& peer) {
           return peer->resolver().covers(page) && peer->resolver().record().state(page) == PageState::unresolved;
         });
}

/// Brings the contents of the run: they are complete, or in the staging buffer, when it returns true. False: it is over.
bool Prefetcher::bring(const PageRun& run) {
  const Source& source = *server_.source;
  if (server_.mapped() != nullptr) return true;
  std::vector<bool> mine;
  if (staging_.empty()) {
    if (source.complete(run)) return true;
    source.take(run, mine);
  }
  if (source.remote() != nullptr) return fetch_remotely(run, mine);
  if (!staging_.empty()) {
    counters_[Counter::fetched_pages] += run.count;
    return source.make(run, staging_.data());
  }
  for (std::uint32_t i = 0; i < run.count; ++i) {
    if (!mine[i]) continue;
    source.put(run.first + i);
    ++counters_[Counter::fetched_pages];
  }
  const Clock& clock = Clock::get();
  while (!source.complete(run))
    if (!sleep_until(clock.now() + clock.from_ns(kClaimedPollNs))) return false;
  return true;
}

bool Prefetcher::fetch_remotely(const PageRun& run, const std::vector<bool>& mine) {
  struct Arrival {
    FutexWord here{0};
    std::vector<std::byte> contents;
  };
  // Shared with the thread the pages arrive on, which may come after this one has given up.
  const auto arrival = std::make_shared<Arrival>();
  arrival->contents.resize(staging_.empty() ? 0 : run.count * guest_.config().page_bytes);
  RemoteSource& remote = *server_.source->remote();
  const auto done = [arrival](Counters&) {
    arrival->here.store(1, std::memory_order_release);
    futex_wake(arrival->here, 1);
  };
  if (remote.fetch(run, mine, staging_.empty() ? nullptr : arrival->contents.data(), done)) {
    remote.flush();
    while (arrival->here.load(std::memory_order_acquire) == 0) {
      if (over()) return false;
      futex_wait(arrival->here, 0, kStopPollNs);
    }
  }
  std::copy(arrival->contents.begin(), arrival->contents.end(), staging_.begin());
  return true;
}

void Prefetcher::install(const Peer& peer, const PageRun& run) {
  const std::uint64_t end = run.first + run.count;
  const std::uint64_t page_bytes = guest_.config().page_bytes;
  for (std::uint64_t page = run.first; page < end;) {
    const PageRun claimed =
        peer.resolver().covers(page) ? peer.resolver().claim_onwards(page, end, server_.claim) : PageRun{page, 0};
    if (claimed.count == 0) {
      counters_[Counter::prefetch_late] += peer.resolver().covers(page);
      ++page;
      continue;
    }
    if (server_.mapped() != nullptr) {
      install_mapped(peer, claimed);
      page += claimed.count;
      continue;
    }
    const std::byte* from = staging_.empty() ? nullptr : staging_.data() + (page - run.first) * page_bytes;
    const Installed installed = install_part(peer, {claimed, from});
    page += installed.end == Installed::End::gone ? installed.settled + 1 : claimed.count;
  }
}

/// Pages that were dropped meanwhile, or cannot be installed for now, are left to the vCPU that touches them.
Installed Prefetcher::install_part(const Peer& peer, const Part& part) {
  // A foreign VMM's remove events are read by no thread while pages are installed: nothing is waited for.
  const int tries = server_.mapped() != nullptr ? Resolver::kOnce : kTries;
  const Install how{.from = part.from, .wake = true, .tries = tries, .zero = part.zero};
  const Installed installed = peer.resolver().install(part.run, how, counters_);
  count_brought({part.run.first, installed.settled}, installed.pages);
  if (part.zero) counters_[Counter::zero_pages] += installed.pages;
  if (installed.end == Installed::End::refused) guest_.stop("prefetch: " + peer.resolver().refusal(part.run, installed));
  return installed;
}

void Prefetcher::install_mapped(const Peer& peer, const PageRun& claimed) {
  const auto installing = server_.installing();
  parts_.clear();
  split_by_zeros(server_, peer.resolver(), claimed, parts_);
  for (const Part& part : parts_) install_part(peer, part);
}

void Prefetcher::count_brought(const PageRun& run, std::uint64_t pages) {
  counters_[Counter::prefetched_pages] += pages;
  for (std::uint32_t i = 0; i < run.count; ++i) server_.brought[run.first + i] = 1;
}

bool Prefetcher::sleep_until(Ticks due) const noexcept {
  const Clock& clock = Clock::get();
  for (Ticks now = clock.now(); now < due; now = clock.now()) {
    if (over()) return false;
    const auto ns = clock.to_ns(due - now);
    const timespec nap{0, static_cast<long>(std::min(ns, kStopPollNs))};
    ::nanosleep(&nap, nullptr);
  }
  return true;
}

void Prefetcher::mark(bool last) {
  const std::uint64_t pages = counters_[Counter::prefetched_pages];
  const std::uint64_t before = marks_.empty() ? 0 : marks_.back().pages;
  if (pages != before && (last || pages - before >= pages_ / kMarks)) marks_.push_back({Clock::get().now(), pages});
}

}  // namespace uffd
