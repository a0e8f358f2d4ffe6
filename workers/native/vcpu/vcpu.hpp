// One vCPU: its thread's life from the start barrier to the end of its access order, which an engine walks.
// The engine only touches a page and takes the exit; the strategy only decides what to do next.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "guest/access_order.hpp"
#include "guest/arrivals.hpp"
#include "guest/milestones.hpp"
#include "guest/populate_first.hpp"
#include "kernel/clock.hpp"
#include "kernel/lock_counter.hpp"
#include "kernel/placement.hpp"
#include "kernel/thread_usage.hpp"
#include "vcpu/engine.hpp"
#include "vcpu/trips.hpp"

namespace uffd {

class Vcpu : private Trips {
 public:
  Vcpu(const VmmShared& vmm, std::uint32_t index, FaultRecord* records, const AccessConfig& access, CpuList cpus);

  /// The thread's whole life: pin, wait at the barrier, run the passes on `engine`. Never throws; `failure` has the reason.
  void run(Engine& engine) noexcept;
  bool wait_until(Ticks when) noexcept;  ///< false: the run is being stopped
  /// So much of this thread's CPU time was a wait for an access that was not due.
  void count_waiting(Ticks waited) noexcept;

  using Trips::on_exit;
  using Trips::stopping;

  /// For an engine that makes the accesses on this thread. An access to `page`, whose byte in the record is `known`, begins.
  [[gnu::always_inline]] void raise_here(std::uint64_t page, std::uint8_t known, bool write, Ticks due) noexcept {
    begin(page, known, write, due);
    raised_ = now();
    if (PageRecord::faults(known))
      open_record();
    else
      state_.stage.store(Stage::touching, kRelaxed);  // relaxed: progress, for the watchdog; here all are of this kind
  }
  /// It has read `value`; `base`: of the contents of its page. False: it was given up, or its word is wrong.
  [[gnu::always_inline]] bool finish_here(std::uint64_t value, std::uint64_t base) noexcept {
    if (!open_ && !abandoned_ && slept(state_)) [[unlikely]]
      open_slept();
    Touched touched{.value = value};
    if (open_) {
      touched.stopping = stopping();
      touched.waited = delivered();
      // Sleepers of a run that is being stopped wake up to a page of zeros.
      touched.first = !(books_.external && touched.stopping) && first_touch(books_.pages, page_, known_, books_.userfaultfd);
      touched.resumed = clock_.now_and_cpu(touched.cpu);
      seen_.add(touched.cpu);
      state_.slot.store(kNoSlot, kRelaxed);  // an event that is read later is not of this record
    }
    return close(touched, base);
  }

  // An access to a page that is mapped according to the record is not noted and not stamped: a stamp waits for every load
  // before it, and so keeps the processor from making several such accesses at a time, as those of a guest's program are made.
  // One that exits or sleeps all the same is noted from there on; from then on each access is stamped before it is made. The
  // engine has state() at hand: to load it from here would be repeated after each touch.

  bool notes_all() const noexcept { return notes_all_; }
  [[gnu::always_inline]] void touch_mapped(VcpuState& state, std::uint64_t page, bool write) noexcept {
    write_ = write;
    state.page.store(page, kRelaxed);
    state.stage.store(Stage::touching, kRelaxed);
  }
  /// Whether the touch neither exited nor slept.
  [[gnu::always_inline]] bool found_mapped(const VcpuState& state) const noexcept { return !under_way_ && !slept(state); }
  [[gnu::always_inline]] bool finish_mapped(std::uint64_t page, std::uint64_t value, std::uint64_t base) noexcept {
    return check_word(page, value, base);
  }
  /// It did. Every access is noted from now on.
  bool finish_late(std::uint64_t value, std::uint64_t base) noexcept {
    note_slept();
    return finish_here(value, base);
  }
  /// The access is interrupted, by its exit or by the end of the run.
  void note_late() noexcept {
    if (under_way_) return;
    notes_all_ = true;
    begin(state_.page.load(kRelaxed), PageRecord::kMapped, write_, 0);
    raised_ = now();
  }
  /// One more access of the first pass or a later one is done.
  [[gnu::always_inline]] void count_here(VcpuState& state) noexcept {
    const std::uint64_t done = ++done_;
    state.accesses.store(done, kRelaxed);
    if (milestones_.due(done)) [[unlikely]]
      passed_milestone(now(), state.resolved_by_reader.load(kRelaxed));
  }

  /// For an engine whose guest makes the accesses and notes them: one of them is accounted for, before it is done when it exits.
  struct Raised {
    std::uint64_t page;
    std::uint8_t known;  ///< the page's byte in the record
    bool write;
    Ticks due, at;
    bool opened;  ///< the guest has opened its record, where the next one is counted to be
  };
  void raise(const Raised& raised) noexcept {
    begin(raised.page, raised.known, raised.write, raised.due);
    raised_ = raised.at;
    // It may have been made long ago. Without a stamp of its own it may hold either.
    if (books_.dropped != nullptr) dropped_before_ = books_.dropped->dropped_before(raised.page, raised.at);
    if (!PageRecord::faults(raised.known)) return;
    if (raised.opened)
      take_over_record();
    else
      open_record();
  }
  void finish(const Touched& touched) noexcept {
    seen_.add(touched.cpu);
    close(touched, books_.contents.base(page_));
    ++done_;
  }
  /// The access under way will not be done: the run is being stopped.
  void finish_abandoned(const Touched& touched) noexcept {
    abandoned_ = true;
    close(touched, 0);
  }
  void found_wrong(const WrongWord& found) noexcept { wrong_.add(found); }
  void passed_milestone(Ticks at, std::uint64_t resolved_by_readers) noexcept {
    milestones_.mark(at, done_, resolved_ + resolved_by_readers);
  }
  bool has_record() const noexcept { return open_; }
  /// The record of the access under way passes through the scratch slot.
  bool in_scratch_slot() const noexcept { return open_ && slot_index_ == books_.record_capacity; }
  using AccessAccount::delivered;
  bool abandoned() const noexcept { return abandoned_; }
  bool met_memory_error() const noexcept { return memory_error_; }
  const Books& books() const noexcept { return books_; }
  AccessOrder& order() noexcept { return order_; }
  Arrivals& arrivals() noexcept { return arrivals_; }
  /// Time that the engine spends between two batches of accesses, in which the vCPU makes none.
  void add_bookkeeping(Ticks ticks) noexcept { bookkeeping_ += ticks; }
  Ticks bookkeeping() const noexcept { return bookkeeping_; }
  const AccessConfig& access_config() const noexcept { return config_; }
  void end_of_pass() {
    if (rounds_.empty()) pass_ends_.push_back(now());  // of the first round
  }
  bool owns(const void* address) const noexcept {
    return static_cast<const std::byte*>(address) >= vmm_.region &&
           static_cast<const std::byte*>(address) < vmm_.region + vmm_.guest.layout().span_bytes();
  }
  void abandon() noexcept { abandoned_ = true; }
  using AccessAccount::made_entry;
  using AccessAccount::made_exit;

  std::uint32_t index() const noexcept { return index_; }
  const VmmShared& vmm() const noexcept { return vmm_; }
  VcpuState& state() const noexcept { return state_; }
  std::uint64_t faults() const noexcept { return faults_; }
  std::uint64_t recorded() const noexcept { return recorded_; }
  FaultRecord* records() const noexcept { return records_; }
  const Counters& counters() const noexcept { return counters_; }
  LockCounter& locks() noexcept { return locks_; }
  const LockCounter& locks() const noexcept { return locks_; }
  CpuList cpus_seen() const { return seen_.list(); }
  const Milestones& milestones() const noexcept { return milestones_; }
  const std::vector<Ticks>& pass_ends() const noexcept { return pass_ends_; }
  Ticks longest_fault() const noexcept { return longest_.resumed - longest_.raised; }
  const LongestFault& longest() const noexcept { return longest_; }
  LongestFault& longest() noexcept { return longest_; }
  const ThreadUsage& usage() const noexcept { return usage_; }  ///< of all rounds

  /// One round as this vCPU saw it.
  struct Round {
    Ticks start = 0, end = 0;  ///< end 0: it was given up
    std::uint64_t cpu_ns = 0;
    std::uint64_t recorded = 0;  ///< records there are at its end
    std::uint64_t resolved = 0;  ///< pages of the guest that were first resolved for it by then, by readers too
  };
  const std::vector<Round>& rounds() const noexcept { return rounds_; }
  /// After a round, when no reader has an event of it left: what has been resolved for this vCPU by now.
  void settle_round() noexcept {
    if (!rounds_.empty()) rounds_.back().resolved = state_.first_by_vcpu.load() + state_.first_by_reader.load();
  }
  /// Whether there is room for the records of a round as long as the latest.
  bool has_room() const noexcept;
  std::uint64_t wrong_words() const noexcept { return wrong_.count; }
  std::string first_wrong() const;  ///< empty: none
  const std::string& failure() const noexcept { return failure_; }
  Ticks start() const noexcept { return start_; }  ///< of the round under way, or the latest
  Ticks first_start() const noexcept { return rounds_.empty() ? start_ : rounds_.front().start; }
  Ticks end() const noexcept { return rounds_.empty() ? 0 : rounds_.back().end; }

 private:
  /// The access under way has no record, and a reader had its event: the record calls its page mapped, and it was not.
  bool slept(const VcpuState& state) const noexcept { return state.slept.load(std::memory_order_acquire) == done_ + 1; }
  void note_slept() noexcept;
  void open_slept() noexcept;
  bool wait_at_barrier(std::uint32_t round) noexcept;
  bool one_round(Engine::Seat& seat);               ///< false: the run is being stopped
  bool sleep_and_spin(Ticks until) const noexcept;  ///< the same
  void end_round() noexcept;
  Ticks now() const noexcept { return clock_.now(); }
  void populate_first();
  void populate_everything(PopulateFirst& all);

  AccessConfig config_;
  AccessOrder order_;
  Arrivals arrivals_;
  CpuList cpus_;
  CpusSeen seen_;
  ThreadUsage usage_;
  Milestones milestones_;
  std::vector<Ticks> pass_ends_;
  std::string failure_;
  bool notes_all_;  ///< accesses to mapped pages too
  Ticks bookkeeping_ = 0;
  std::vector<Round> rounds_;
  Ticks start_ = 0;
};

}  // namespace uffd
