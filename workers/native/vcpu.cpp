#include "vcpu.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "kernel.hpp"
#include "thread_engine.hpp"
#include "verify.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kLookAgainNs = 100'000'000;  // how long a wait sleeps before it looks whether the run was stopped
constexpr int kCrashed = 70;  // the exit status of a VMM process that a memory error ended
constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

Vcpu::Vcpu(const VmmShared& vmm, std::uint32_t index, FaultRecord* records, const AccessConfig& access, CpuList cpus)
    : vmm_(vmm),
      index_(index),
      state_(vmm.guest.vcpu(index)),
      records_(records),
      config_(access),
      order_(access, vmm.guest.pages(), index, vmm.guest.config().vcpus, vmm.guest.config().seed),
      cpus_(std::move(cpus)),
      progress_(order_.per_pass()) {}

void Vcpu::run() noexcept {
  try {
    pin_this_thread(cpus_);
    name_this_thread("vcpu " + std::to_string(index_));
    state_.tid.store(static_cast<std::uint32_t>(::syscall(SYS_gettid)), std::memory_order_release);
    const ThreadEngine engine(*this);
    if (wait_at_barrier()) {
      seen_.add_current();
      const ThreadUsage before = ThreadUsage::of_this_thread();
      start_ = clock_.now();
      if (vmm_.populate_first != nullptr) populate_first();
      loop();
      end_ = clock_.now();
      usage_ = ThreadUsage::of_this_thread().since(before);
      seen_.add_current();
    }
  } catch (const std::exception& error) {
    failure_ = error.what();
    vmm_.guest.stop("vCPU " + std::to_string(index_) + ": " + failure_);
  }
  state_.stage.store(Stage::done, kRelaxed);
  state_.finished.store(1, std::memory_order_release);
  vmm_.guest.header().ended.fetch_add(1, std::memory_order_release);
  futex_wake(vmm_.guest.header().ended, 0x7fffffff);
}

bool Vcpu::wait_at_barrier() noexcept {
  SharedHeader& shared = vmm_.guest.header();
  state_.stage.store(Stage::at_barrier, kRelaxed);
  if (shared.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == vmm_.guest.config().vcpus) {
    shared.start.store(clock_.now(), kRelaxed);
    shared.released.store(1, std::memory_order_release);
    futex_wake(shared.released, 0x7fffffff);
  }
  while (shared.released.load(std::memory_order_acquire) == 0 && !stopping()) futex_wait(shared.released, 0, kLookAgainNs);
  return !stopping();
}

[[gnu::hot]] void Vcpu::loop() {
  const Clock& clock = clock_;
  const Ticks interval = config_.rate_per_s > 0.0 ? clock.from_ns(1e9 / config_.rate_per_s) : 0;
  const Ticks think = clock.from_ns(static_cast<double>(config_.think_ns));
  Ticks intended = start_;
  std::uint64_t done = 0;
  for (std::uint32_t pass = 0; pass < config_.passes; ++pass) {
    order_.rewind();
    for (std::uint64_t i = 0; i < order_.per_pass(); ++i) {
      if (stopping()) return;
      const std::uint64_t page = order_.next_page();
      const bool read = order_.next_is_read();
      if (interval != 0) {
        if (!wait_until(intended)) return;
        access(page, read, intended);
        intended += interval;
      } else {
        access(page, read, 0);
      }
      state_.accesses.store(++done, kRelaxed);
      if (progress_.due(done)) [[unlikely]]
        progress_.mark(clock.now(), done, resolved_ + state_.resolved_by_reader.load(kRelaxed));
      if (think != 0 && !wait_until(clock.now() + think)) return;
    }
    progress_.end_of_pass(clock.now());
  }
  if (config_.hold_ns != 0) wait_until(start_ + clock.from_ns(static_cast<double>(config_.hold_ns)));
}

bool Vcpu::wait_until(Ticks when) const noexcept {
  const Clock& clock = clock_;
  // Sleeping overshoots by about 100 us (timer slack, idle CPU), so the last stretch is spun.
  const Ticks spun = clock.from_ns(200'000);
  const Ticks longest = clock.from_ns(static_cast<double>(kLookAgainNs));
  for (Ticks now = clock.now(); now < when; now = clock.now()) {
    if (stopping()) return false;
    if (when - now <= spun) continue;
    state_.stage.store(Stage::thinking, kRelaxed);
    const Ticks nap = std::min(when - now - spun, longest);
    const auto ns = static_cast<std::uint64_t>(static_cast<double>(nap) * 1e9 / clock.ticks_per_s());
    const timespec time{static_cast<time_t>(ns / kNanosecondsPerSecond), static_cast<long>(ns % kNanosecondsPerSecond)};
    ::nanosleep(&time, nullptr);
  }
  return true;
}

[[gnu::hot]] void Vcpu::access(std::uint64_t page, bool read, Ticks intended) {
  const std::uint8_t known = vmm_.resolver.record().byte(page);
  const PageState was = PageRecord::state_of(known);
  page_ = page;
  when_raised_ = was;
  attempt_ = 0;
  open_ = abandoned_ = resolved_here_ = populated_ = memory_error_ = false;
  state_.page.store(page, kRelaxed);
  raised_ = clock_.now();
  if (was != PageState::resolved || PageRecord::swapped_out(known))
    open_record(page, intended);
  else
    state_.stage.store(Stage::touching, kRelaxed);

  const std::uint64_t base = vmm_.guest.contents().base(page);
  const std::uint64_t index = vmm_.guest.contents().touched_word(base);
  auto* word = reinterpret_cast<std::uint64_t*>(vmm_.region + page * vmm_.page_bytes) + index;
  const std::uint64_t value = ThreadEngine::touch(*this, page, known, word, read);

  // A run that is being stopped ends registration to wake its sleepers: what such a touch found is nobody's resolve.
  if (open_ && stopping() && vmm_.userfaultfd && slot_->installed.load(kRelaxed) == 0) abandoned_ = true;
  if (open_) {
    if (intended != 0 && slot_->intended == 0) slot_->intended = intended;
    close_record(known);
  }
  if (!abandoned_ && vmm_.verify != Verify::none) check(page, base, index, value);
}

[[gnu::hot]] void Vcpu::check(std::uint64_t page, std::uint64_t base, std::uint64_t index, std::uint64_t word) {
  const std::uint64_t expected = Contents::word(base, index);
  if (word != expected) {
    if (wrong_words_++ == 0) first_wrong_ = describe_wrong_word(page, index, word, expected);
    return;
  }
  if (vmm_.verify != Verify::page) return;
  const std::byte* at = vmm_.region + page * vmm_.page_bytes;
  std::uint64_t first = 0;
  const std::uint64_t wrong = vmm_.guest.contents().wrong_words(page, at, first);
  if (wrong == 0) return;
  if (wrong_words_ == 0)
    first_wrong_ = describe_wrong_word(page, first, reinterpret_cast<const std::uint64_t*>(at)[first], Contents::word(base, first));
  wrong_words_ += wrong;
}

[[gnu::hot]] void Vcpu::open_record(std::uint64_t page, Ticks intended) noexcept {
  open_ = true;
  // The slot after the last is the scratch slot: faults that are not sampled, or have no room, pass through it.
  const bool sampled = faults_ % vmm_.sample_every == 0;
  const bool room = recorded_ < vmm_.record_capacity;
  if (sampled && !room && vmm_.record_capacity != 0) ++counters_[Counter::records_dropped];  // 0: no record was asked for
  const std::uint64_t index = sampled && room ? recorded_ : vmm_.record_capacity;
  slot_ = &records_[index];
  slot_->intended = intended;
  slot_->raised = raised_;
  slot_->delivered.store(0, kRelaxed);
  slot_->fetched.store(0, kRelaxed);
  slot_->installed.store(0, kRelaxed);
  slot_->page.store(static_cast<std::uint32_t>(page), kRelaxed);
  state_.slot.store(index, std::memory_order_release);
  state_.stage.store(Stage::raised, kRelaxed);
}

[[gnu::hot]] void Vcpu::close_record(std::uint8_t known) noexcept {
  slot_->resumed = clock_.now_and_cpu(slot_->cpu);
  seen_.add(slot_->cpu);
  FaultOutcome outcome = FaultOutcome::lost_race;
  if (memory_error_) {
    outcome = FaultOutcome::memory_error;
  } else if (abandoned_) {
    outcome = FaultOutcome::abandoned;
    ++counters_[Counter::abandoned];
  } else if (resolved_here_) {
    outcome = FaultOutcome::resolved;
  } else if (populated_) {
    outcome = FaultOutcome::populated;
  } else if (!vmm_.userfaultfd) {
    // The kernel mapped it. Who takes the page in hand first has it counted.
    outcome = FaultOutcome::kernel;
    if (PageRecord::state_of(known) == PageState::unresolved && vmm_.resolver.record().claim(page_, PageRecord::vcpu_claim())) {
      vmm_.resolver.record().set(page_, PageState::resolved);
      state_.resolved_by_vcpu.store(++resolved_, kRelaxed);
    }
  } else if (attempt_ == 0 && slot_->delivered.load(std::memory_order_acquire) != 0) {
    outcome = FaultOutcome::waited;
  } else if (attempt_ == 0 && PageRecord::swapped_out(known)) {
    if (!vmm_.resolver.record().set_swapped_in(page_)) return;  // another vCPU's touch has brought it in
    outcome = FaultOutcome::kernel;
  } else if (attempt_ == 0 && vmm_.exit != ExitKind::none) {
    return;  // no exit came: another vCPU resolved the page between our look at the record and the touch. Not a fault.
  }
  if (PageRecord::swapped_out(known)) vmm_.resolver.record().set_swapped_in(page_);
  if (outcome == FaultOutcome::lost_race) ++counters_[Counter::lost_races];
  slot_->outcome = outcome;
  longest_fault_ = std::max(longest_fault_, slot_->resumed - slot_->raised);
  if (slot_ != &records_[vmm_.record_capacity]) ++recorded_;
  state_.faults.store(++faults_, std::memory_order_release);  // whoever sees the count may read the record
}

[[gnu::hot]] void Vcpu::stamp(std::atomic<Ticks> FaultRecord::*stage) noexcept {
  (slot_->*stage).store(clock_.now(), kRelaxed);
}

[[gnu::hot]] Verdict Vcpu::on_exit(int populate_error) noexcept {
  if (!open_) open_record(page_, 0);
  ++counters_[Counter::trips];
  if (++attempt_ == 1) stamp(&FaultRecord::delivered);
  if (vmm_.eexist_only && populate_error == Situation::kNotTried) {
    const Verdict verdict = resolve_blindly(page_);
    if (verdict != Verdict::undecided) return verdict;
    when_raised_ = PageState::resolved;  // EEXIST is all that is known of it
  }
  while (!stopping()) {
    state_.stage.store(Stage::delivered, kRelaxed);
    const Action action = vmm_.strategy.decide({.when_raised = when_raised_,
                                                .now = vmm_.resolver.record().state(page_),
                                                .memory = vmm_.memory,
                                                .attempt = attempt_,
                                                .populate_error = populate_error});
    switch (action) {
      case Action::resolve:
        return resolve(page_);
      case Action::resolve_again:
        return resolve_again(page_);
      case Action::fetch_and_populate:
        return fetch_and_populate(page_);
      case Action::retry:
        return retry();
      case Action::populate:
        populate_error = populate(page_);
        if (populate_error == 0) return Verdict::run_again;
        continue;
      case Action::memory_error:
        return memory_error();
    }
  }
  return stopped();
}

Verdict Vcpu::retry() noexcept {
  ++counters_[Counter::retries];
  // Wait here while the page is in somebody's hands: each touch before it is there would cost another exit.
  while (vmm_.resolver.record().state(page_) == PageState::in_flight && !stopping()) sched_yield();
  return Verdict::run_again;
}

Verdict Vcpu::stopped() noexcept {
  ++counters_[Counter::trips_stopped];
  return Verdict::abandon;
}

Verdict Vcpu::memory_error() noexcept {
  ++counters_[Counter::memory_errors];
  memory_error_ = true;
  if (vmm_.crash_on_memory_error) {
    vmm_.guest.stop("memory error: page " + std::to_string(page_) + " is poisoned, and vCPU " + std::to_string(index_) +
                    " ended its VMM process for it (on_memory_error=crash)");
    ::_exit(kCrashed);
  }
  return Verdict::abandon;
}

[[gnu::hot]] int Vcpu::populate(std::uint64_t page) noexcept {
  state_.stage.store(Stage::populating, kRelaxed);
  if (::madvise(vmm_.region + page * vmm_.page_bytes, vmm_.page_bytes, MADV_POPULATE_WRITE) != 0) {
    ++counters_[Counter::populate_failed];
    return errno;
  }
  ++counters_[Counter::populate_ok];
  populated_ = true;
  stamp(&FaultRecord::installed);
  return 0;
}

[[gnu::hot]] Verdict Vcpu::resolve(std::uint64_t page) noexcept {
  const PageRun claimed = vmm_.resolver.claim(page, PageRecord::vcpu_claim());
  if (claimed.count == 0) return retry();  // somebody was faster
  PageRun run = claimed;
  const RequestState got = fetch(page, run);
  if (got != RequestState::present) {
    vmm_.resolver.release(claimed, PageState::unresolved);
    return got == RequestState::poisoned ? poison(page) : stopped();
  }
  if (run.count != claimed.count) vmm_.resolver.release_rest(claimed, run);
  state_.stage.store(Stage::installing, kRelaxed);
  const std::byte* from = vmm_.memory == MemoryType::anon ? vmm_.guest.payload(index_) : nullptr;
  const Resolver::Installed installed = vmm_.resolver.install(run, from, false, counters_);
  stamp(&FaultRecord::installed);
  if (installed.pages != 0) state_.resolved_by_vcpu.store(resolved_ += installed.pages, kRelaxed);
  if (installed.error != 0) {
    vmm_.guest.stop("a resolve was refused with errno " + std::to_string(installed.error) + " for page " + std::to_string(page));
    return stopped();
  }
  resolved_here_ = installed.pages != 0 && !installed.lost;
  ++counters_[resolved_here_ ? Counter::trips_resolved : Counter::trips_lost];
  return resolved_here_ ? Verdict::mapped : Verdict::run_again;
}

Verdict Vcpu::resolve_again(std::uint64_t page) noexcept {
  PageRun run{page, 1};
  if (vmm_.memory == MemoryType::anon && fetch(page, run) != RequestState::present) return stopped();
  state_.stage.store(Stage::installing, kRelaxed);
  const std::byte* from = vmm_.memory == MemoryType::anon ? vmm_.guest.payload(index_) : nullptr;
  const Resolver::Installed installed = vmm_.resolver.install_again(page, from, false, counters_);
  stamp(&FaultRecord::installed);
  resolved_here_ = installed.pages != 0;
  if (resolved_here_)
    ++counters_[Counter::resolved_again];
  else if (installed.lost)
    ++counters_[Counter::trips_lost];
  else
    ++counters_[Counter::retries];  // refused for now (EAGAIN): the touch comes back
  return resolved_here_ ? Verdict::mapped : Verdict::run_again;
}

// No record is asked: get the contents, install, and let EEXIST say what was there.
Verdict Vcpu::resolve_blindly(std::uint64_t page) noexcept {
  PageRun run{page, 1};
  const RequestState got = fetch(page, run);
  if (got == RequestState::poisoned) return poison(page);
  if (got != RequestState::present) return stopped();
  state_.stage.store(Stage::installing, kRelaxed);
  const std::byte* from = vmm_.memory == MemoryType::anon ? vmm_.guest.payload(index_) : nullptr;
  const Resolver::Installed installed = vmm_.resolver.install_blindly(page, from, counters_);
  if (installed.lost) return Verdict::undecided;
  stamp(&FaultRecord::installed);
  if (installed.error == EAGAIN) return retry();
  if (installed.error != 0) {
    vmm_.guest.stop("a resolve was refused with errno " + std::to_string(installed.error) + " for page " + std::to_string(page));
    return stopped();
  }
  resolved_here_ = true;
  ++counters_[Counter::trips_resolved];
  state_.resolved_by_vcpu.store(++resolved_, kRelaxed);
  return Verdict::mapped;
}

// For anonymous memory the contents go with the resolve, which is the reader's here: there is nothing to get beforehand.
Verdict Vcpu::fetch_and_populate(std::uint64_t page) noexcept {
  if (vmm_.memory != MemoryType::anon) {
    PageRun run{page, 1};
    const RequestState got = fetch(page, run);
    if (got == RequestState::poisoned) return poison(page);
    if (got != RequestState::present) return stopped();
  }
  return populate(page) == 0 ? Verdict::run_again : retry();
}

Verdict Vcpu::poison(std::uint64_t page) noexcept {
  if (!vmm_.resolver.record().claim(page, PageRecord::vcpu_claim())) return retry();
  const int error = vmm_.resolver.poison(page, true, counters_);
  stamp(&FaultRecord::installed);
  if (error == 0) return memory_error();
  if (error != EEXIST)
    vmm_.guest.stop("poisoning page " + std::to_string(page) + " was refused with errno " + std::to_string(error));
  return retry();
}

[[gnu::hot]] RequestState Vcpu::fetch(std::uint64_t page, PageRun& run) noexcept {
  bool here = vmm_.memory != MemoryType::anon;  // contents of anonymous memory travel in the ring's slot, always
  for (std::uint32_t i = 0; here && i < run.count; ++i) here = vmm_.guest.complete(run.first + i);
  if (here) {  // complete when the exit arrived: no time of its own
    slot_->fetched.store(slot_->delivered.load(kRelaxed), kRelaxed);
    return RequestState::present;
  }
  state_.stage.store(Stage::fetching, kRelaxed);
  ++counters_[Counter::requests];
  state_.wanted_page.store(page, kRelaxed);
  state_.request_page.store(run.first, kRelaxed);
  state_.request_pages.store(run.count, kRelaxed);
  constexpr auto asked = static_cast<std::uint32_t>(RequestState::asked);
  state_.request.store(asked, std::memory_order_release);
  vmm_.guest.post_request(index_);
  RequestState answer = RequestState::asked;
  const auto unanswered = [&] { return answer == RequestState::asked || answer == RequestState::taken; };
  while (unanswered() && !stopping()) {
    futex_wait_noted(state_.request, static_cast<std::uint32_t>(answer), state_.request_asleep, kLookAgainNs);
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
  stamp(&FaultRecord::fetched);
  return answer;
}

}  // namespace uffd
