// One vCPU of the thread engine's family: walks its access order, and when an access exits, does what the strategy decides.
// The engine below it only knows how to touch a page and how an exit arrives; the strategy only knows what to do next.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "access_order.hpp"
#include "clock.hpp"
#include "counters.hpp"
#include "fault_record.hpp"
#include "guest.hpp"
#include "placement.hpp"
#include "populate_first.hpp"
#include "progress.hpp"
#include "resolver.hpp"
#include "strategy.hpp"
#include "thread_usage.hpp"

namespace uffd {

enum class Verify { none, word, page };

/// What the vCPUs of one VMM process share while they run.
struct VmmShared {
  const Guest& guest;
  const Strategy& strategy;
  ExitKind exit;
  bool userfaultfd;
  PopulateFirst* populate_first;  ///< null unless everything is brought in before the first access
  bool eexist_only;             ///< exits are answered without the page record
  bool crash_on_memory_error;   ///< the VMM process ends instead of telling the guest
  MemoryType memory;
  Resolver& resolver;
  std::byte* region;            ///< the vCPUs' mapping
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

class Vcpu {
 public:
  Vcpu(const VmmShared& vmm, std::uint32_t index, FaultRecord* records, const AccessConfig& access, CpuList cpus);

  /// The thread's whole life: pin, wait at the barrier, run the passes. Never throws; `failure` tells.
  void run() noexcept;

  /// An exit has arrived for the access under way; `populate_error`: what MADV_POPULATE_WRITE said, where that is how it came
  /// (ExitKind::populate). Called from the SIGBUS handler, at a touch and nowhere else.
  Verdict on_exit(int populate_error = Situation::kNotTried) noexcept;
  bool stopping() const noexcept { return vmm_.guest.stopping(); }
  bool owns(const void* address) const noexcept {
    return static_cast<const std::byte*>(address) >= vmm_.region &&
           static_cast<const std::byte*>(address) < vmm_.region + vmm_.guest.config().region_bytes;
  }
  void abandon() noexcept { abandoned_ = true; }

  std::uint32_t index() const noexcept { return index_; }
  const VmmShared& vmm() const noexcept { return vmm_; }
  VcpuState& state() const noexcept { return state_; }
  std::uint64_t recorded() const noexcept { return recorded_; }
  FaultRecord* records() const noexcept { return records_; }
  const Counters& counters() const noexcept { return counters_; }
  CpuList cpus_seen() const { return seen_.list(); }
  const Progress& progress() const noexcept { return progress_; }
  Ticks longest_fault() const noexcept { return longest_fault_; }
  const ThreadUsage& usage() const noexcept { return usage_; }  ///< of the measured phase
  std::uint64_t wrong_words() const noexcept { return wrong_words_; }
  const std::string& first_wrong() const noexcept { return first_wrong_; }
  const std::string& failure() const noexcept { return failure_; }
  Ticks start() const noexcept { return start_; }
  Ticks end() const noexcept { return end_; }

 private:
  bool wait_at_barrier() noexcept;
  void loop();
  void populate_first();
  void populate_everything(PopulateFirst& all);
  void access(std::uint64_t page, bool read, Ticks intended);
  void open_record(std::uint64_t page, Ticks intended) noexcept;
  void close_record(std::uint8_t known) noexcept;
  void check(std::uint64_t page, std::uint64_t base, std::uint64_t index, std::uint64_t word);
  bool wait_until(Ticks when) const noexcept;

  Verdict resolve(std::uint64_t page) noexcept;
  Verdict resolve_again(std::uint64_t page) noexcept;
  Verdict resolve_blindly(std::uint64_t page) noexcept;
  /// Gets contents. `present` of a run cut to what the page server has; `poisoned` when the first page wanted is; `failed`.
  RequestState fetch(std::uint64_t page, PageRun& run) noexcept;
  Verdict fetch_and_populate(std::uint64_t page) noexcept;
  Verdict poison(std::uint64_t page) noexcept;  ///< the source says so: poisons the claimed page here
  Verdict memory_error() noexcept;
  Verdict retry() noexcept;
  Verdict stopped() noexcept;
  int populate(std::uint64_t page) noexcept;  ///< the errno, 0: done
  void stamp(std::atomic<Ticks> FaultRecord::*stage) noexcept;

  const VmmShared& vmm_;
  const Clock& clock_ = Clock::get();
  std::uint32_t index_;
  VcpuState& state_;
  FaultRecord* records_;
  AccessConfig config_;
  AccessOrder order_;
  CpuList cpus_;
  CpusSeen seen_;
  ThreadUsage usage_;
  Progress progress_;
  Counters counters_;

  // The access under way.
  std::uint64_t page_ = 0;
  PageState when_raised_ = PageState::unresolved;
  std::uint32_t attempt_ = 0;
  bool open_ = false;
  bool abandoned_ = false;
  bool resolved_here_ = false;
  bool populated_ = false;
  bool memory_error_ = false;
  Ticks raised_ = 0;
  FaultRecord* slot_ = nullptr;

  std::uint64_t faults_ = 0;
  Ticks longest_fault_ = 0;
  std::uint64_t recorded_ = 0;
  std::uint64_t resolved_ = 0;
  std::uint64_t wrong_words_ = 0;
  std::string first_wrong_;
  std::string failure_;
  Ticks start_ = 0, end_ = 0;
};

}  // namespace uffd
