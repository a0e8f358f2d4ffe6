// One VMM process's side of a guest: its mapping of the region, its userfaultfds, its page record, its vCPU threads.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "disturb/device_mapping.hpp"
#include "disturb/disturbances.hpp"
#include "guest/guest.hpp"
#include "guest/populate_first.hpp"
#include "vcpu/resident.hpp"
#include "vcpu/vcpu.hpp"
#include "vcpu/verify.hpp"
#include "vmm/next_round.hpp"
#include "vmm/prepare.hpp"
#include "vmm/registration.hpp"
#include "vmm/watchdog.hpp"

namespace uffd {

struct VmmConfig {
  std::uint32_t vmm = 0;
  std::uint32_t first_vcpu = 0;
  std::uint32_t vcpus = 1;
  std::uint32_t uffds = 1;
  std::string strategy;
  Options options;
  std::string engine = "thread";
  Options engine_options;
  std::string verify = "word";
  std::string on_memory_error = "inject";
  std::string snapshot;  ///< of Restore::file_map
  bool cold = false;     ///< the snapshot's pages are not in the page cache when the run starts
  double watchdog_s = 10.0;
  std::uint64_t sample_every = 1;
  std::uint64_t record_capacity = 0;
  std::vector<CpuList> vcpu_cpus;
  AccessConfig access;
  bool count_mmap_lock = false;
  DisturbConfig disturb;
  RoundsConfig rounds;
};

/// Pages of one mapping by their state in its record, indexed by PageState.
using PageStates = std::array<std::uint64_t, kPageStateNames.size()>;

class Vmm {
 public:
  /// Maps and registers everything. Throws ConfigError and KernelError.
  Vmm(const Guest& guest, VmmConfig config);
  ~Vmm();
  Vmm(const Vmm&) = delete;
  Vmm& operator=(const Vmm&) = delete;

  const std::vector<std::unique_ptr<Userfaultfd>>& userfaultfds() const noexcept { return registration_.uffds; }
  const std::vector<Shard>& shards() const noexcept { return registration_.shards; }
  int record_fd() const noexcept { return record_fd_.get(); }
  /// Null unless devices have a mapping of their own.
  const DeviceMapping* device_mapping() const noexcept { return device_mapping_.get(); }
  int faults_fd() const noexcept { return faults_fd_.get(); }
  std::uint64_t page_bytes() const noexcept { return guest_.config().page_bytes; }

  Prepared prepare() const;
  /// After the page server was killed, before another takes over: its claims of pages are settled by what the kernel says of
  /// each page. How many there were. May run beside the vCPUs. Throws KernelError.
  std::uint64_t reclaim() const;
  /// Closes this process's userfaultfds: what the page server holds are then the last ones.
  void let_go() noexcept;
  /// Starts the vCPU threads and the disturbances, and returns when all rounds are over; the watchdog, and what is done between
  /// rounds, run on the calling thread.
  void run();
  /// Pages that could not be brought into their state between rounds.
  std::uint64_t unprepared() const noexcept { return next_round_ == nullptr ? 0 : next_round_->unprepared(); }
  /// Ends registration (nothing can sleep any more) and turns the records' stamps into CLOCK_MONOTONIC nanoseconds.
  void finish();
  Verified verify() const;
  PageStates page_states() const;
  /// Under a handler that is not ours: pages that are mapped and that no vCPU has touched. After finish().
  std::uint64_t brought_untouched() const;
  /// Mapped pages of the region by NUMA node; empty where the kernel has none. Throws KernelError.
  std::vector<std::uint64_t> page_nodes() const;

  Counters counters() const;  ///< of vCPUs and disturbances
  const std::vector<Disturbances::Thread>& disturbers() const noexcept { return disturbances_->threads(); }
  const std::vector<std::unique_ptr<Vcpu>>& vcpus() const noexcept { return vcpus_; }
  const TickLine& line() const noexcept { return line_; }
  std::string stuck(std::uint32_t vcpu) const { return watchdog_ == nullptr ? std::string() : watchdog_->stuck(vcpu); }

 private:
  void make_tables();
  void add_disturbances();
  void make_engine();
  using Threads = std::vector<std::thread::native_handle_type>;
  PrepareJob prepare_job() const noexcept;
  void make_next_round();
  void run_rounds(const Threads& threads);
  /// Until this process's vCPUs have finished `rounds` rounds, or have ended.
  void watch(const Threads& threads, std::uint32_t rounds);
  void end(const Threads& threads);
  bool ended(std::size_t vcpu) const noexcept { return vcpus_[vcpu]->state().finished.load(std::memory_order_acquire) != 0; }
  void end_sleepers() const noexcept;
  void credit_unclaimed() const noexcept;
  std::uint64_t counted() const noexcept;  ///< pages resolved for this process's vCPUs, in all rounds
  void read_events() const noexcept;
  void stop_disturbances();
  std::uint64_t slots_per_vcpu() const noexcept { return config_.record_capacity + 1; }
  FaultRecord* records_of(std::uint32_t vcpu) const noexcept {
    return reinterpret_cast<FaultRecord*>(faults_.data()) + vcpu * slots_per_vcpu();
  }

  const Guest& guest_;
  VmmConfig config_;
  const StrategyInfo& info_;
  Options options_;
  std::unique_ptr<Strategy> strategy_;
  Registration registration_;
  PopulateFirst populate_first_;
  Descriptor record_fd_, faults_fd_;
  Mapping record_, faults_;
  std::unique_ptr<DroppedPages> dropped_;
  Resident resident_;
  std::unique_ptr<Resolver> resolver_;
  std::unique_ptr<VmmShared> shared_;
  std::unique_ptr<DeviceMapping> device_mapping_;
  std::unique_ptr<Disturbances> disturbances_;
  std::unique_ptr<Engine> engine_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
  std::unique_ptr<Watchdog> watchdog_;
  std::unique_ptr<NextRound> next_round_;
  TickLine line_;
  std::uint64_t counted_before_ = 0;  ///< in the rounds before this one
  bool finished_ = false;
};

}  // namespace uffd
