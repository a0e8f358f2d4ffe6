// One vCPU: walks its access order, or has a guest make the accesses, and when one exits, does what the strategy decides.
// The engine below it only knows how to touch a page and how an exit arrives; the strategy only knows what to do next.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "guest/access_order.hpp"
#include "guest/guest.hpp"
#include "guest/milestones.hpp"
#include "kernel/clock.hpp"
#include "kernel/lock_counter.hpp"
#include "kernel/placement.hpp"
#include "kernel/thread_usage.hpp"
#include "resolve/resolver.hpp"
#include "resolve/strategy.hpp"
#include "vcpu/access_account.hpp"
#include "vcpu/engine.hpp"
#include "vcpu/populate_first.hpp"

namespace uffd {

/// What the vCPUs of one VMM process share while they run.
struct VmmShared {
  const Guest& guest;
  const Strategy& strategy;
  ExitKind exit;
  bool userfaultfd;
  PopulateFirst* populate_first;  ///< null unless everything is brought in before the first access
  bool eexist_only;               ///< exits are answered without the page record
  bool crash_on_memory_error;     ///< the VMM process ends instead of telling the guest
  bool count_mmap_lock;           ///< each vCPU counts the mmap_lock it takes for reading
  bool track_removes;             ///< a page that is gone and said to be resolved may have been dropped: ask the readers
  MemoryType memory;
  Resolver& resolver;
  std::byte* region;  ///< the vCPUs' mapping
  std::uint64_t page_bytes;
  Verify verify;
  std::uint64_t sample_every;
  std::uint64_t record_capacity;
};

enum class Verdict {
  run_again,  ///< touch it again
  mapped,     ///< this vCPU's own resolve has just installed it: touch it, no need to look
  undecided,  ///< the strategy has to say
  abandon,    ///< give the access up: a memory error, or the run is being stopped
};

class Vcpu : private AccessAccount {
 public:
  Vcpu(const VmmShared& vmm, std::uint32_t index, FaultRecord* records, const AccessConfig& access, CpuList cpus);

  /// The thread's whole life: pin, wait at the barrier, run the passes on `engine`. Never throws; `failure` tells.
  void run(Engine& engine) noexcept;
  /// All passes, on this thread.
  void loop();
  bool wait_until(Ticks when) const noexcept;  ///< false: the run is being stopped

  /// An exit has arrived for the access under way; `populate_error`: what MADV_POPULATE_WRITE said, where that is how it came
  /// (Exit::populate). Called from the SIGBUS handler, at a touch and nowhere else, or by an engine between two exits.
  Verdict on_exit(Exit exit, int populate_error = Situation::kNotTried) noexcept;

  /// For an engine whose guest makes the accesses and notes them: one of them is accounted for, before it is done when it exits.
  struct Raised {
    std::uint64_t page;
    std::uint8_t known;  ///< the page's byte in the record
    Ticks due, at;
    bool opened;  ///< the guest has opened its record, where the books say that the next one is
  };
  void raise(const Raised& raised) noexcept {
    begin(raised.page, raised.known, raised.due);
    raised_ = raised.at;
    if (!PageRecord::faults(raised.known)) return;
    if (raised.opened)
      take_over_record();
    else
      open_record();
  }
  void finish(const Touched& touched) noexcept {
    seen_.add(touched.cpu);
    close(touched);
    ++done_;
  }
  /// The access under way will not be done: the run is being stopped.
  void finish_abandoned(const Touched& touched) noexcept {
    abandoned_ = true;
    close(touched);
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
  const AccessConfig& access_config() const noexcept { return config_; }
  void end_of_pass() { pass_ends_.push_back(now()); }
  bool stopping() const noexcept { return vmm_.guest.stopping(); }
  bool owns(const void* address) const noexcept {
    return static_cast<const std::byte*>(address) >= vmm_.region &&
           static_cast<const std::byte*>(address) < vmm_.region + vmm_.guest.config().region_bytes;
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
  Ticks longest_fault() const noexcept { return longest_fault_; }
  const ThreadUsage& usage() const noexcept { return usage_; }  ///< of the measured phase
  std::uint64_t wrong_words() const noexcept { return wrong_.count; }
  std::string first_wrong() const;  ///< empty: none
  const std::string& failure() const noexcept { return failure_; }
  Ticks start() const noexcept { return start_; }
  Ticks end() const noexcept { return end_; }

 private:
  bool wait_at_barrier() noexcept;
  bool pass();
  bool access(std::uint64_t page, bool read, Ticks due) noexcept;
  Ticks now() const noexcept { return clock_.now(); }
  void populate_first();
  void populate_everything(PopulateFirst& all);

  Verdict resolve(std::uint64_t page) noexcept;
  Verdict resolve_again(std::uint64_t page) noexcept;
  Verdict resolve_blindly(std::uint64_t page) noexcept;
  /// Installs a run whose contents are here, without wake. True: every page of it is mapped. False: `verdict` says what to do.
  bool install(const PageRun& run, Known known, Installed& installed, Verdict& verdict) noexcept;
  /// Gets contents. `present` of a run cut to what the page server has; `poisoned` when the first page wanted is; `failed`.
  RequestState fetch(std::uint64_t page, PageRun& run) noexcept;
  RequestState ask(std::uint64_t page, PageRun& run, bool lost) noexcept;
  PageState state_now() const noexcept;
  /// Contents of a run around `page` are gone: has the page server make them again. False: the run is being stopped.
  bool refetch(std::uint64_t page, PageRun run) noexcept;
  Verdict fetch_and_populate(std::uint64_t page) noexcept;
  Verdict poison(std::uint64_t page) noexcept;  ///< the source says so: poisons the claimed page here
  Verdict memory_error() noexcept;
  Verdict retry() noexcept;
  Verdict stopped() noexcept;
  int populate(std::uint64_t page) noexcept;  ///< the errno, 0: done
  void stamp(std::atomic<Ticks> FaultRecord::* stage) noexcept;

  const VmmShared& vmm_;
  const Clock& clock_ = Clock::get();
  std::uint32_t index_;
  AccessConfig config_;
  AccessOrder order_;
  CpuList cpus_;
  CpusSeen seen_;
  ThreadUsage usage_;
  LockCounter locks_;
  Milestones milestones_;
  std::vector<Ticks> pass_ends_;
  std::string failure_;
  Ticks next_due_ = 0;  ///< of an open loop
  Ticks start_ = 0, end_ = 0;
};

}  // namespace uffd
