#include "server/prefetcher.hpp"

#include <algorithm>
#include <memory>

#include "kernel/error.hpp"
#include "resolve/poison.hpp"
#include "server/page_server.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kLongestNs = 100'000'000;  // how long a wait sleeps before it looks whether it is over
constexpr double kLookAgainNs = 20'000;            // how soon contents that somebody else fetches are looked at again
constexpr std::uint64_t kMarks = 256;
constexpr int kTries = 100;  // of a block that cannot be installed for now
constexpr double kBytesPerMib = 1 << 20;

}  // namespace

void check(const PrefetchConfig& config, std::uint64_t pages) {
  if (config.name != "none" && config.name != "order" && config.name != "working_set")
    throw ConfigError("prefetch '" + config.name + "' is unknown; it is one of none, order, working_set");
  if (config.batch_pages == 0) throw ConfigError("prefetch.batch_pages must be at least 1");
  for (const std::uint32_t page : config.pages)
    if (page >= pages)
      throw ConfigError("the working set holds page " + std::to_string(page) + ", which the region does not have");
}

Prefetcher::Prefetcher(PageServer& server, const PrefetchConfig& config, ReaderInfo& info, std::vector<PrefetchMark>& marks)
    : server_(server),
      config_(config),
      info_(info),
      marks_(marks),
      pages_(server.guest_.pages()),
      in_order_(config.name == "order") {
  const MemoryType memory = server.guest_.config().memory;
  if (memory == MemoryType::anon || memory == MemoryType::file)
    staging_.resize(config.batch_pages * server.guest_.config().page_bytes);
  marks_.reserve(2 * kMarks);
}

void Prefetcher::serve() {
  if (!wait_for_start()) return;
  const Clock& clock = Clock::get();
  const double page_bytes = static_cast<double>(server_.guest_.config().page_bytes);
  Delay delay(server_.config_.delay_us, server_.config_.delay_exponential, server_.config_.seed + server_.config_.readers + 1);
  Ticks due = clock.now();
  for (std::uint64_t at = 0; at < size() && !over();) {
    PageRun run{page_at(at++), 1};
    if (!wanted(run.first)) continue;
    while (at < size() && run.count < config_.batch_pages && page_at(at) == run.first + run.count && wanted(page_at(at))) {
      ++run.count;
      ++at;
    }
    if (!sleep_until(due)) break;
    if (config_.mib_per_s > 0.0)
      due = std::max(due, clock.now() - clock.from_ns(kLongestNs)) +
            clock.from_ns(run.count * page_bytes / (config_.mib_per_s * kBytesPerMib) * 1e9);
    if (!delay.none() && !server_.source_->complete(run) && !sleep_until(clock.now() + clock.from_ns(delay.next_ns()))) break;
    if (!fetch(run)) break;
    if (server_.guest_.config().memory == MemoryType::file) (*info_.counters)[Counter::prefetched_pages] += run.count;
    for (const auto& peer : server_.peers_) install(*peer, run);
    mark(false);
  }
  mark(true);
}

bool Prefetcher::wait_for_start() const {
  FutexWord& released = server_.guest_.header().released;
  while (released.load(std::memory_order_acquire) == 0) {
    if (over()) return false;
    futex_wait(released, 0, kLongestNs);
  }
  return true;
}

// What comes after the last vCPU has ended is no part of the run.
bool Prefetcher::over() const noexcept {
  return server_.stopping_.load(std::memory_order_acquire) || server_.guest_.stopping() ||
         server_.guest_.header().ended.load(std::memory_order_acquire) >= server_.guest_.config().vcpus;
}

bool Prefetcher::wanted(std::uint64_t page) const noexcept {
  if (poisoned_at_source(server_.guest_, page)) return false;
  return server_.peers_.empty() || std::any_of(server_.peers_.begin(), server_.peers_.end(), [page](const auto& peer) {
           return peer->resolver->covers(page) && peer->resolver->record().state(page) == PageState::unresolved;
         });
}

/// Brings the contents of the run: they are complete, or in the staging buffer, when it returns true. False: it is over.
bool Prefetcher::fetch(const PageRun& run) {
  const Source& source = *server_.source_;
  std::vector<bool> mine;
  if (staging_.empty()) {
    if (source.complete(run)) return true;
    source.take(run, mine);
  }
  if (source.remote() != nullptr) return fetch_remotely(run, mine);
  if (!staging_.empty()) {
    (*info_.counters)[Counter::fetched_pages] += run.count;
    return source.make(run, staging_.data());
  }
  for (std::uint32_t i = 0; i < run.count; ++i) {
    if (!mine[i]) continue;
    source.put(run.first + i);
    ++(*info_.counters)[Counter::fetched_pages];
  }
  const Clock& clock = Clock::get();
  while (!source.complete(run))
    if (!sleep_until(clock.now() + clock.from_ns(kLookAgainNs))) return false;
  return true;
}

bool Prefetcher::fetch_remotely(const PageRun& run, const std::vector<bool>& mine) {
  struct Arrival {
    FutexWord here{0};
    std::vector<std::byte> contents;
  };
  // Shared with the thread the pages arrive on, which may come after this one has given up.
  const auto arrival = std::make_shared<Arrival>();
  arrival->contents.resize(staging_.empty() ? 0 : run.count * server_.guest_.config().page_bytes);
  RemoteSource& remote = *server_.source_->remote();
  const auto done = [arrival](Counters&) {
    arrival->here.store(1, std::memory_order_release);
    futex_wake(arrival->here, 1);
  };
  if (remote.fetch(run, mine, staging_.empty() ? nullptr : arrival->contents.data(), done)) {
    remote.flush();
    while (arrival->here.load(std::memory_order_acquire) == 0) {
      if (over()) return false;
      futex_wait(arrival->here, 0, kLongestNs);
    }
  }
  std::copy(arrival->contents.begin(), arrival->contents.end(), staging_.begin());
  return true;
}

void Prefetcher::install(const Peer& peer, const PageRun& run) {
  const std::uint64_t end = run.first + run.count;
  const std::uint64_t page_bytes = server_.guest_.config().page_bytes;
  for (std::uint64_t page = run.first; page < end;) {
    const PageRun claimed =
        peer.resolver->covers(page) ? peer.resolver->claim_onwards(page, end, server_.claim_) : PageRun{page, 0};
    if (claimed.count == 0) {
      (*info_.counters)[Counter::prefetch_late] += peer.resolver->covers(page);
      ++page;
      continue;
    }
    const std::byte* from = staging_.empty() ? nullptr : staging_.data() + (page - run.first) * page_bytes;
    const Installed installed = peer.resolver->install(claimed, {.from = from, .wake = true, .tries = kTries}, *info_.counters);
    (*info_.counters)[Counter::prefetched_pages] += installed.pages;
    // Pages that were dropped meanwhile, or cannot be installed for now, are left to whoever touches them.
    if (installed.end == Installed::End::refused) server_.guest_.stop("prefetch: " + peer.resolver->refusal(claimed, installed));
    page += claimed.count;
  }
}

bool Prefetcher::sleep_until(Ticks due) const noexcept {
  const Clock& clock = Clock::get();
  for (Ticks now = clock.now(); now < due; now = clock.now()) {
    if (over()) return false;
    const auto ns = clock.to_ns(due - now);
    const timespec nap{0, static_cast<long>(std::min(ns, kLongestNs))};
    ::nanosleep(&nap, nullptr);
  }
  return true;
}

void Prefetcher::mark(bool last) {
  const std::uint64_t pages = (*info_.counters)[Counter::prefetched_pages];
  const std::uint64_t before = marks_.empty() ? 0 : marks_.back().pages;
  if (pages != before && (last || pages - before >= pages_ / kMarks)) marks_.push_back({Clock::get().now(), pages});
}

}  // namespace uffd
