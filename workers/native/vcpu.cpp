#include "vcpu.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "kernel.hpp"
#include "thread_engine.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kLookAgainNs = 100'000'000;  // how long a wait sleeps before it looks whether the run was stopped
constexpr auto kRelaxed = std::memory_order_relaxed;

std::string wrong_word(std::uint64_t page, std::uint64_t index, std::uint64_t found, std::uint64_t expected) {
  char text[128];
  std::snprintf(text, sizeof text, "page %llu, word %llu: found 0x%016llx, expected 0x%016llx",
                static_cast<unsigned long long>(page), static_cast<unsigned long long>(index),
                static_cast<unsigned long long>(found), static_cast<unsigned long long>(expected));
  return text;
}

}  // namespace

Vcpu::Vcpu(const VmmShared& vmm, std::uint32_t index, FaultRecord* records, const AccessConfig& access, CpuList cpus)
    : vmm_(vmm),
      index_(index),
      state_(vmm.guest.vcpu(index)),
      records_(records),
      config_(access),
      order_(access, vmm.guest.pages(), index, vmm.guest.config().vcpus, vmm.guest.config().seed),
      cpus_(std::move(cpus)) {}

void Vcpu::run() noexcept {
  try {
    pin_this_thread(cpus_);
    name_this_thread("vcpu " + std::to_string(index_));
    state_.tid.store(static_cast<std::uint32_t>(::syscall(SYS_gettid)), std::memory_order_release);
    const ThreadEngine engine(*this);
    if (wait_at_barrier()) {
      seen_.add_current();
      start_ = clock_.now();
      loop();
      end_ = clock_.now();
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
      if (think != 0 && !wait_until(clock.now() + think)) return;
    }
  }
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
  open_ = abandoned_ = resolved_here_ = memory_error_ = false;
  state_.page.store(page, kRelaxed);
  raised_ = clock_.now();
  if (was != PageState::resolved)
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
    close_record(was);
  }
  if (!abandoned_ && vmm_.verify != Verify::none) check(page, base, index, value);
}

[[gnu::hot]] void Vcpu::check(std::uint64_t page, std::uint64_t base, std::uint64_t index, std::uint64_t word) {
  const std::uint64_t expected = Contents::word(base, index);
  if (word != expected) {
    if (wrong_words_++ == 0) first_wrong_ = wrong_word(page, index, word, expected);
    return;
  }
  if (vmm_.verify != Verify::page) return;
  const std::byte* at = vmm_.region + page * vmm_.page_bytes;
  std::uint64_t first = 0;
  const std::uint64_t wrong = vmm_.guest.contents().wrong_words(page, at, first);
  if (wrong == 0) return;
  if (wrong_words_ == 0)
    first_wrong_ = wrong_word(page, first, reinterpret_cast<const std::uint64_t*>(at)[first], Contents::word(base, first));
  wrong_words_ += wrong;
}

[[gnu::hot]] void Vcpu::open_record(std::uint64_t page, Ticks intended) noexcept {
  open_ = true;
  // The slot after the last is the scratch slot: faults that are not sampled, or have no room, pass through it.
  const bool sampled = faults_ % vmm_.sample_every == 0;
  const bool room = recorded_ < vmm_.record_capacity;
  if (sampled && !room) ++counters_[Counter::records_dropped];
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

[[gnu::hot]] void Vcpu::close_record(PageState was) noexcept {
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
  } else if (!vmm_.userfaultfd) {
    // The kernel mapped it. Who takes the page in hand first has it counted.
    outcome = FaultOutcome::kernel;
    if (was == PageState::unresolved && vmm_.resolver.record().claim(page_, PageRecord::vcpu_claim())) {
      vmm_.resolver.record().set(page_, PageState::resolved);
      state_.resolved_by_vcpu.store(++resolved_, kRelaxed);
    }
  } else if (attempt_ == 0 && slot_->delivered.load(std::memory_order_acquire) != 0) {
    outcome = FaultOutcome::waited;
  } else if (attempt_ == 0 && vmm_.exit != ExitKind::none) {
    return;  // no exit came: another vCPU resolved the page between our look at the record and the touch. Not a fault.
  }
  if (outcome == FaultOutcome::lost_race) ++counters_[Counter::lost_races];
  slot_->outcome = outcome;
  if (slot_ != &records_[vmm_.record_capacity]) ++recorded_;
  state_.faults.store(++faults_, kRelaxed);
}

[[gnu::hot]] void Vcpu::stamp(std::atomic<Ticks> FaultRecord::*stage) noexcept {
  (slot_->*stage).store(clock_.now(), kRelaxed);
}

[[gnu::hot]] Verdict Vcpu::on_exit() noexcept {
  if (!open_) open_record(page_, 0);
  ++counters_[Counter::trips];
  if (++attempt_ == 1) stamp(&FaultRecord::delivered);
  bool populate_failed = false;
  while (!stopping()) {
    state_.stage.store(Stage::delivered, kRelaxed);
    const Action action = vmm_.strategy.decide({.when_raised = when_raised_,
                                                .now = vmm_.resolver.record().state(page_),
                                                .memory = vmm_.memory,
                                                .attempt = attempt_,
                                                .populate_failed = populate_failed});
    switch (action) {
      case Action::resolve:
        return resolve(page_);
      case Action::resolve_again:
        return resolve_again(page_);
      case Action::retry:
        ++counters_[Counter::retries];
        // Wait here while the page is in somebody's hands: each touch before it is there would cost another exit.
        while (vmm_.resolver.record().state(page_) == PageState::in_flight && !stopping()) sched_yield();
        return Verdict::run_again;
      case Action::populate:
        state_.stage.store(Stage::installing, kRelaxed);
        if (::madvise(vmm_.region + page_ * vmm_.page_bytes, vmm_.page_bytes, MADV_POPULATE_WRITE) == 0) {
          ++counters_[Counter::populate_ok];
          stamp(&FaultRecord::installed);
          return Verdict::run_again;
        }
        ++counters_[Counter::populate_failed];
        populate_failed = true;
        continue;
      case Action::memory_error:
        ++counters_[Counter::memory_errors];
        memory_error_ = true;
        return Verdict::abandon;
    }
  }
  return Verdict::abandon;
}

[[gnu::hot]] Verdict Vcpu::resolve(std::uint64_t page) noexcept {
  const PageRun run = vmm_.resolver.claim(page, PageRecord::vcpu_claim());
  if (run.count == 0) return Verdict::run_again;  // somebody was faster
  if (!fetch(run)) {
    vmm_.resolver.release(run, PageState::unresolved);
    return stopping() ? Verdict::abandon : Verdict::run_again;
  }
  state_.stage.store(Stage::installing, kRelaxed);
  const std::byte* from = vmm_.memory == MemoryType::anon ? vmm_.guest.payload(index_) : nullptr;
  const Resolver::Installed installed = vmm_.resolver.install(run, from, false, counters_);
  stamp(&FaultRecord::installed);
  if (installed.pages != 0) state_.resolved_by_vcpu.store(resolved_ += installed.pages, kRelaxed);
  if (installed.error != 0) {
    vmm_.guest.stop("a resolve was refused with errno " + std::to_string(installed.error) + " for page " + std::to_string(page));
    return Verdict::abandon;
  }
  resolved_here_ = installed.pages != 0 && !installed.lost;
  return resolved_here_ ? Verdict::mapped : Verdict::run_again;
}

Verdict Vcpu::resolve_again(std::uint64_t page) noexcept {
  state_.stage.store(Stage::installing, kRelaxed);
  const Resolver::Installed installed = vmm_.resolver.install_again(page, nullptr, false, counters_);
  stamp(&FaultRecord::installed);
  resolved_here_ = installed.pages != 0;
  return resolved_here_ ? Verdict::mapped : Verdict::run_again;
}

[[gnu::hot]] bool Vcpu::fetch(const PageRun& run) noexcept {
  bool here = vmm_.memory != MemoryType::anon;  // contents of anonymous memory travel in the ring's slot, always
  for (std::uint32_t i = 0; here && i < run.count; ++i) here = vmm_.guest.complete(run.first + i);
  if (here) {  // complete when the exit arrived: no time of its own
    slot_->fetched.store(slot_->delivered.load(kRelaxed), kRelaxed);
    return true;
  }
  state_.stage.store(Stage::fetching, kRelaxed);
  ++counters_[Counter::requests];
  state_.request_page.store(run.first, kRelaxed);
  state_.request_pages.store(run.count, kRelaxed);
  constexpr auto asked = static_cast<std::uint32_t>(RequestState::asked);
  state_.request.store(asked, std::memory_order_release);
  vmm_.guest.post_request(index_);
  while (state_.request.load(std::memory_order_acquire) == asked && !stopping()) futex_wait(state_.request, asked, kLookAgainNs);
  const auto answer = static_cast<RequestState>(state_.request.load(std::memory_order_acquire));
  state_.request.store(static_cast<std::uint32_t>(RequestState::free), kRelaxed);
  if (answer == RequestState::present) {
    stamp(&FaultRecord::fetched);
    return true;
  }
  if (answer == RequestState::asked) return false;  // the run is being stopped
  ++counters_[Counter::requests_failed];
  vmm_.guest.stop("the page server could not provide page " + std::to_string(run.first));
  return false;
}

}  // namespace uffd
