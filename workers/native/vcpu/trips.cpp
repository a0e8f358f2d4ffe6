#include "vcpu/trips.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "kernel/vocabulary.hpp"
#include "resolve/poison.hpp"

namespace uffd {

namespace {

constexpr int kLooks = 8;     // at a page in flight, before the vCPU sleeps until it is settled
constexpr int kCrashed = 70;  // the exit status of a VMM process that a memory error ended

Books books_of(const VmmShared& vmm, std::uint32_t index, FaultRecord* records, const AccessConfig& access) {
  const Clock& clock = Clock::get();
  return {
      .guest = vmm.guest,
      .state = vmm.guest.vcpu(index),
      .records = records,
      .pages = vmm.resolver.record(),
      .contents = vmm.guest.contents(),
      .region = vmm.region,
      .page_bytes = vmm.page_bytes,
      .sample_every = vmm.sample_every,
      .record_capacity = vmm.record_capacity,
      .think = clock.from_ns(static_cast<double>(access.think_ns)),
      .verify = vmm.verify,
      .userfaultfd = vmm.userfaultfd && !vmm.external,
      .exits = vmm.exit != ExitKind::none,
      .external = vmm.external,
      .layout = vmm.guest.layout(),
      .dropped = vmm.dropped,
  };
}

}  // namespace

Trips::Trips(const VmmShared& vmm, std::uint32_t index, FaultRecord* records, const AccessConfig& access)
    : AccessAccount(books_of(vmm, index, records, access)), vmm_(vmm), index_(index) {}

[[gnu::hot]] void Trips::stamp(std::atomic<Ticks> FaultRecord::* stage) noexcept {
  (slot_->*stage).store(clock_.now(), kRelaxed);  // relaxed: AccessAccount has the reasons, requests included
}

[[gnu::hot]] Verdict Trips::on_exit(Exit exit, int populate_error) noexcept {
  if (!open_) open_record();
  ++counters_[Counter::trips];
  if (++attempt_ == 1) {
    // A reader that poisoned the page has stamped the event before the vCPU woke up into its exit: the first stamp stays.
    if (slot_->delivered.load(kRelaxed) == 0) stamp(&FaultRecord::delivered);
    slot_->exit = exit;
  }
  if (vmm_.eexist_only && populate_error == Situation::kNotTried) {
    const Verdict verdict = resolve_blindly(page_);
    if (verdict != Verdict::undecided) return verdict;
    when_raised_ = PageState::resolved;  // EEXIST is all that is known of it
  }
  while (!stopping()) {
    state_.stage.store(Stage::delivered, kRelaxed);
    const Action action = vmm_.strategy.decide({.when_raised = when_raised_,
                                                .now = state_now(),
                                                .memory = vmm_.memory,
                                                .attempt = attempt_,
                                                .populate_error = populate_error,
                                                .installed_again = installed_again_,
                                                .drops_announced = vmm_.track_removes});
    switch (action) {
      case Action::resolve: return resolve(page_);
      case Action::resolve_again: return resolve_again(page_);
      case Action::fetch_and_populate: return fetch_and_populate(page_);
      case Action::retry: return retry();
      case Action::populate:
        populate_error = populate(page_);
        if (populate_error == 0) return Verdict::mapped;
        continue;
      case Action::memory_error: return memory_error();
    }
  }
  return stopped();
}

[[gnu::hot]] PageState Trips::state_now() const noexcept {
  const PageState now = vmm_.resolver.record().state(page_);
  if (!vmm_.track_removes || now != PageState::resolved) return now;
  vmm_.guest.wait_for_removes();
  return vmm_.resolver.record().state(page_);
}

Verdict Trips::retry() noexcept {
  ++counters_[Counter::retries];
  // Wait here while another thread has the page in flight: each touch before it is there would cost another exit. A resolve takes
  // a microsecond or two, so look a few times; a fetch may take milliseconds.
  const auto in_flight = [&] { return vmm_.resolver.record().state(page_) == PageState::in_flight; };
  for (int look = 0; look < kLooks && in_flight(); ++look) sched_yield();
  while (in_flight() && !stopping()) {
    ++counters_[Counter::page_waits];
    vmm_.guest.header().page_waiters.wait(page_, kStopPollNs, in_flight);
  }
  return Verdict::run_again;
}

Verdict Trips::stopped() noexcept {
  ++counters_[Counter::trips_stopped];
  return Verdict::abandon;
}

Verdict Trips::memory_error() noexcept {
  ++counters_[Counter::memory_errors];
  memory_error_ = true;
  if (vmm_.crash_on_memory_error) {
    vmm_.guest.stop("memory error: page " + std::to_string(page_) + " is poisoned, and vCPU " + std::to_string(index_) +
                    " ended its VMM process for it (on_memory_error=crash)");
    ::_exit(kCrashed);
  }
  return Verdict::abandon;
}

[[gnu::hot]] int Trips::populate(std::uint64_t page) noexcept {
  state_.stage.store(Stage::populating, kRelaxed);
  const auto work = [&] { return ::madvise(books_.at(page), vmm_.page_bytes, MADV_POPULATE_WRITE); };
  if (locks_.during(LockCause::populate, work) != 0) {
    ++counters_[Counter::populate_failed];
    return errno;
  }
  ++counters_[Counter::populate_ok];
  populated_ = true;
  stamp(&FaultRecord::installed);
  return 0;
}

[[gnu::hot]] Verdict Trips::resolve(std::uint64_t page) noexcept {
  const PageRun claimed = vmm_.resolver.claim(page, PageRecord::vcpu_claim());
  if (claimed.count == 0) return retry();  // another thread was faster
  PageRun run = claimed;
  const RequestState got = fetch(page, run);
  if (got != RequestState::present) {
    vmm_.resolver.release(claimed);
    return got == RequestState::poisoned ? poison(page) : stopped();
  }
  if (run.count != claimed.count) vmm_.resolver.release_rest(claimed, run);
  Installed installed;
  Verdict verdict{};
  const bool mapped = install(run, Known::claimed, installed, verdict);
  if (installed.pages != 0) count_resolved(installed.pages - installed.again, installed.first);
  if (!mapped) return verdict;
  resolved_here_ = installed.wanted;
  ++counters_[resolved_here_ ? Counter::trips_resolved : Counter::trips_lost];
  return resolved_here_ ? Verdict::mapped : Verdict::run_again;
}

Verdict Trips::resolve_again(std::uint64_t page) noexcept {
  PageRun run{page, 1};
  if (vmm_.memory == MemoryType::anon) {
    if (fetch(page, run) != RequestState::present) return stopped();
  } else if (!vmm_.guest.complete(page)) {  // being written: it is brought as a page that was dropped
    vmm_.resolver.record().discard(page);
    return retry();
  }
  Installed installed;
  Verdict verdict{};
  if (!install(run, Known::resolved_before, installed, verdict)) return verdict;  // no fact about the page
  ++installed_again_;
  resolved_here_ = installed.wanted;
  ++counters_[resolved_here_ ? Counter::resolved_again : Counter::trips_lost];
  return resolved_here_ ? Verdict::mapped : Verdict::run_again;
}

// Without the record: get the contents, install, and decide by EEXIST.
Verdict Trips::resolve_blindly(std::uint64_t page) noexcept {
  PageRun run{page, 1};
  const RequestState got = fetch(page, run);
  if (got == RequestState::poisoned) return poison(page);
  if (got != RequestState::present) return stopped();
  Installed installed;
  Verdict verdict{};
  if (!install(run, Known::not_asked, installed, verdict)) return verdict;
  if (installed.lost) return Verdict::undecided;
  resolved_here_ = true;
  ++counters_[Counter::trips_resolved];
  count_resolved(1, installed.first);
  return Verdict::mapped;
}

[[gnu::hot]] bool Trips::install(const PageRun& run, Known known, Installed& installed, Verdict& verdict) noexcept {
  state_.stage.store(Stage::installing, kRelaxed);
  const std::byte* from = vmm_.memory == MemoryType::anon ? vmm_.guest.payload(index_) : nullptr;
  // Under a hypervisor the neighbours that fault-around brings cost a stage-2 violation each, under every strategy alike.
  // Strategies that exit by signal pay nothing for them here, so the others do not either: what was just installed needs no look
  // at its PTE.
  const Install how{.wanted = page_, .from = from, .enter_stage2 = vmm_.exit >= ExitKind::probe, .known = known};
  installed = locks_.during(LockCause::resolve, [&] { return vmm_.resolver.install(run, how, counters_); });
  if (known != Known::not_asked || !installed.lost) stamp(&FaultRecord::installed);
  switch (installed.end) {
    case Installed::End::mapped: return true;
    case Installed::End::changing: verdict = retry(); break;  // the touch comes back, and the watchdog looks on
    case Installed::End::gone: verdict = refetch(page_, run) ? retry() : stopped(); break;
    case Installed::End::vanished:
    case Installed::End::refused: vmm_.guest.stop(vmm_.resolver.refusal(run, installed)); verdict = stopped();
  }
  return false;
}

// For anonymous memory the contents go with the resolve, which is the reader's here: there is nothing to get beforehand.
Verdict Trips::fetch_and_populate(std::uint64_t page) noexcept {
  if (vmm_.memory != MemoryType::anon) {
    PageRun run{page, 1};
    const RequestState got = fetch(page, run);
    if (got == RequestState::poisoned) return poison(page);
    if (got != RequestState::present) return stopped();
  }
  return populate(page) == 0 ? Verdict::mapped : retry();
}

Verdict Trips::poison(std::uint64_t page) noexcept {
  if (!vmm_.resolver.record().claim(page, PageRecord::vcpu_claim())) {
    // The next exit would find it poisoned in the record, which an exit that goes by EEXIST alone does not look at.
    const bool met_again = vmm_.eexist_only && vmm_.resolver.record().state(page) == PageState::poisoned;
    return met_again ? memory_error() : retry();
  }
  const Installed poisoned = vmm_.resolver.poison(page, true, counters_);
  stamp(&FaultRecord::installed);
  if (poisoned.pages != 0) return memory_error();
  if (poisoned.end == Installed::End::vanished || poisoned.end == Installed::End::refused)
    vmm_.guest.stop(vmm_.resolver.refusal({page, 1}, poisoned));
  return retry();
}

[[gnu::hot]] RequestState Trips::fetch(std::uint64_t page, PageRun& run) noexcept {
  // Contents of anonymous memory travel in the ring's slot, always.
  const PageRun here = vmm_.memory == MemoryType::anon ? PageRun{page, 0} : around_complete(vmm_.guest, run, page);
  if (here.count != 0) {  // complete when the exit arrived: no time of its own
    run = here;
    slot_->fetched.store(slot_->delivered.load(kRelaxed), kRelaxed);
    return RequestState::present;
  }
  const RequestState answer = ask(page, run, false);
  if (answer == RequestState::present || answer == RequestState::poisoned) stamp(&FaultRecord::fetched);
  return answer;
}

bool Trips::refetch(std::uint64_t page, PageRun run) noexcept {
  ++counters_[Counter::contents_lost];
  return ask(page, run, true) == RequestState::present;
}

[[gnu::hot]] RequestState Trips::ask(std::uint64_t page, PageRun& run, bool lost) noexcept {
  state_.stage.store(Stage::fetching, kRelaxed);
  ++counters_[Counter::requests];
  state_.wanted_page.store(page, kRelaxed);
  state_.request_lost.store(lost, kRelaxed);
  state_.request_page.store(run.first, kRelaxed);
  state_.request_pages.store(run.count, kRelaxed);
  constexpr auto asked = static_cast<std::uint32_t>(RequestState::asked);
  state_.request.store(asked, std::memory_order_release);
  vmm_.guest.post_request(index_);
  RequestState answer = RequestState::asked;
  const auto unanswered = [&] { return answer == RequestState::asked || answer == RequestState::taken; };
  while (unanswered() && !stopping()) {
    futex_wait_noted(state_.request, static_cast<std::uint32_t>(answer), state_.request_asleep, kStopPollNs);
    answer = static_cast<RequestState>(state_.request.load(std::memory_order_acquire));
  }
  state_.request.store(static_cast<std::uint32_t>(RequestState::free), kRelaxed);
  if (unanswered()) return RequestState::failed;  // the run is being stopped
  if (answer == RequestState::failed) {
    ++counters_[Counter::requests_failed];
    vmm_.guest.stop("the page server could not provide page " + std::to_string(run.first));
    return answer;
  }
  run = {state_.request_page.load(kRelaxed), state_.request_pages.load(kRelaxed)};
  return answer;
}

}  // namespace uffd
