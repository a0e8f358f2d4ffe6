#include "vcpu/vcpu.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "guest/rounds.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

constexpr int kEverybody = 0x7fffffff;
// The end of a wait is spun and counted in ticks: to read the CPU clock there, by a system call, would make the access late.
constexpr double kLastOfWaitNs = 2'000;

}  // namespace

Vcpu::Vcpu(const VmmShared& vmm, std::uint32_t index, FaultRecord* records, const AccessConfig& access, CpuList cpus)
    : Trips(vmm, index, records, access),
      config_(access),
      order_(access, vmm.guest.pages(), index, vmm.guest.config().vcpus, vmm.guest.config().seed),
      arrivals_(Arrivals::of(access, index, vmm.guest.config().vcpus, vmm.guest.config().seed)),
      cpus_(std::move(cpus)),
      milestones_(order_.per_pass()),
      notes_all_(vmm.guest.config().drops) {}

void Vcpu::run(Engine& engine) noexcept {
  try {
    pin_this_thread(cpus_);
    name_this_thread("vcpu " + std::to_string(index_));
    state_.tid.store(static_cast<std::uint32_t>(::syscall(SYS_gettid)), std::memory_order_release);
    order_.prepare();
    state_.slot.store(kNoSlot, kRelaxed);
    const std::unique_ptr<Engine::Seat> seat = engine.enter(*this);
    std::uint32_t round = 0;
    do {
      if (round != 0) order_.begin_round(round);
      seat->begin_round();
      if (!wait_at_barrier(round)) break;
      if (round == 0 && vmm_.count_mmap_lock) locks_ = LockCounter::of_this_thread();
      if (!one_round(*seat)) break;
      end_round();
    } while (wait_for_next_round(vmm_.guest, ++round));
  } catch (const std::exception& error) {
    failure_ = error.what();
    vmm_.guest.stop("vCPU " + std::to_string(index_) + ": " + failure_);
  }
  state_.stage.store(Stage::done, kRelaxed);  // relaxed: progress, for the watchdog; here all are of this kind
  state_.finished.store(1, std::memory_order_release);
  vmm_.guest.header().ended.fetch_add(1, std::memory_order_release);
  futex_wake(vmm_.guest.header().ended, kEverybody);
}

void Vcpu::note_slept() noexcept {
  if (under_way_) return;
  note_late();
  raised_ = state_.slept_at.load(kRelaxed);  // relaxed: stored before `slept`, which was acquired
}

void Vcpu::open_slept() noexcept {
  open_record();
  slot_->delivered.store(state_.slept_at.load(kRelaxed), kRelaxed);
}

bool Vcpu::one_round(Engine::Seat& seat) {
  seen_.add_current();
  const ThreadUsage before = ThreadUsage::of_this_thread();
  locks_.begin();
  start_ = clock_.now();
  arrivals_.begin(start_);
  Round round{.start = start_};
  if (vmm_.populate_first != nullptr) populate_first();
  seat.walk();
  if (config_.hold_ns != 0) wait_until(start_ + clock_.from_ns(static_cast<double>(config_.hold_ns)));
  const Ticks end = clock_.now();
  locks_.end();
  const ThreadUsage used = ThreadUsage::of_this_thread().since(before);
  usage_ += used;
  seen_.add_current();
  round.end = end;
  round.cpu_ns = used.cpu_ns();
  round.recorded = recorded_;
  rounds_.push_back(round);
  settle_round();
  return !stopping();
}

// The last vCPU of the guest to end a round wakes the VMM processes: they have nothing to do before.
void Vcpu::end_round() noexcept {
  SharedHeader& shared = vmm_.guest.header();
  state_.stage.store(Stage::between_rounds, kRelaxed);
  state_.round_end.store(rounds_.back().end, kRelaxed);
  state_.rounds.fetch_add(1, std::memory_order_release);
  if ((shared.ended.fetch_add(1, std::memory_order_acq_rel) + 1) % vmm_.guest.config().vcpus == 0)
    futex_wake(shared.ended, kEverybody);
}

bool Vcpu::has_room() const noexcept {
  if (books_.record_capacity == 0 || rounds_.empty()) return true;
  const std::uint64_t before = rounds_.size() < 2 ? 0 : rounds_[rounds_.size() - 2].recorded;
  const std::uint64_t latest = rounds_.back().recorded - before;
  return recorded_ + latest + latest / 8 <= books_.record_capacity;
}

bool Vcpu::wait_at_barrier(std::uint32_t round) noexcept {
  SharedHeader& shared = vmm_.guest.header();
  state_.stage.store(Stage::at_barrier, kRelaxed);
  if (shared.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == vmm_.guest.config().vcpus * (round + 1))
    vmm_.guest.all_arrived();
  for (std::uint32_t released; (released = shared.released.load(std::memory_order_acquire)) <= round && !stopping();)
    futex_wait(shared.released, released, kStopPollNs);
  return !stopping();
}

void Vcpu::populate_first() {
  PopulateFirst& all = *vmm_.populate_first;
  if (all.take()) {
    populate_everything(all);
    all.finish();
    return;
  }
  // The watchdog sees how far that vCPU has come: one that waits for it is not stuck before it is.
  state_.stage.store(Stage::populating, kRelaxed);
  while (!all.wait(kStopPollNs) && !stopping()) state_.page.store(all.page(), kRelaxed);
}

void Vcpu::populate_everything(PopulateFirst& all) {
  const std::uint64_t pages = vmm_.guest.pages();
  const std::uint32_t block = vmm_.populate_pages;
  slot_ = &records_[vmm_.record_capacity];  // fetch() stamps: into the scratch slot, this is no fault
  for (std::uint64_t page = 0; page < pages && !stopping();) {
    all.reached(page);
    state_.page.store(page, kRelaxed);
    PageRun run{page, static_cast<std::uint32_t>(std::min<std::uint64_t>(block, pages - page))};
    if (fetch(page, run) != RequestState::present) return;  // the run is being stopped
    state_.stage.store(Stage::populating, kRelaxed);
    std::byte* at = books_.at(run.first);
    const std::uint64_t bytes = run.count * vmm_.page_bytes;
    if (vmm_.memory == MemoryType::anon) {
      std::memcpy(at, vmm_.guest.payload(index_), bytes);
    } else if (::madvise(at, bytes, MADV_POPULATE_WRITE) != 0) {
      vmm_.guest.stop("populating page " + std::to_string(run.first) + " was refused with errno " + std::to_string(errno));
      return;
    }
    for (std::uint32_t i = 0; i < run.count; ++i) {
      if (!vmm_.resolver.record().claim(run.first + i, PageRecord::vcpu_claim())) continue;  // mapped before the start
      vmm_.resolver.record().resolve(run.first + i);
      count_resolved(1, vmm_.guest.first_resolved(run.first + i));
    }
    page = run.first + run.count;
    milestones_.populated(clock_.now(), resolved_, pages);
  }
}

bool Vcpu::wait_until(Ticks when) noexcept {
  const Ticks last = clock_.from_ns(kLastOfWaitNs);
  Ticks now = clock_.now();
  if (now + last < when) {
    const std::uint64_t before = thread_cpu_ns();
    const bool due = sleep_and_spin(when - last);
    counters_[Counter::waiting_cpu_ns] += thread_cpu_ns() - before;
    if (!due) return false;
    now = clock_.now();
  }
  if (now < when) count_waiting(when - now);
  return sleep_and_spin(when);
}

void Vcpu::count_waiting(Ticks waited) noexcept {
  counters_[Counter::waiting_cpu_ns] += static_cast<std::uint64_t>(clock_.to_ns(waited));
}

bool Vcpu::sleep_and_spin(Ticks until) const noexcept {
  const Clock& clock = clock_;
  // Sleeping overshoots by about 100 us (timer slack, idle CPU), so the last stretch is spun.
  const Ticks spun = clock.from_ns(200'000);
  const Ticks longest = clock.from_ns(static_cast<double>(kStopPollNs));
  for (Ticks now = clock.now(); now < until; now = clock.now()) {
    if (stopping()) return false;
    if (until - now <= spun) continue;
    state_.stage.store(Stage::thinking, kRelaxed);
    const Ticks nap = std::min(until - now - spun, longest);
    const auto ns = clock.to_ns(nap);
    const timespec time{static_cast<time_t>(ns / kNanosecondsPerSecond), static_cast<long>(ns % kNanosecondsPerSecond)};
    ::nanosleep(&time, nullptr);
  }
  return true;
}

std::string Vcpu::first_wrong() const {
  if (wrong_.count == 0) return {};
  const std::uint64_t expected = books_.contents.expected(wrong_.page, wrong_.index);
  return describe_wrong_word(wrong_.page, wrong_.index, wrong_.found, expected) +
         (books_.external && wrong_.found == 0 ? kOfZeros : "");
}

}  // namespace uffd
