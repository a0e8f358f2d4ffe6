// The page server: reader threads over the userfaultfds handed to it, and a thread for each request ring, where vCPUs that
// exit ask. It answers for contents: what it hands out is complete, and delayed as asked.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "server/config.hpp"
#include "server/live.hpp"
#include "server/prefetcher.hpp"
#include "server/server_threads.hpp"
#include "server/state.hpp"

namespace uffd {

class PageServer {
 public:
  /// Throws ConfigError, KernelError.
  PageServer(const Guest& guest, PageServerConfig config);
  ~PageServer();
  PageServer(const PageServer&) = delete;
  PageServer& operator=(const PageServer&) = delete;

  /// `fd` is duplicated. `record_fd` and `faults_fd` are -1 for a VMM that is not ours. Throws ConfigError, KernelError.
  void add(int fd, std::vector<RegionView> regions, int vmm, int record_fd, int faults_fd);
  /// Serves until stop(). Throws KernelError when a thread cannot be started (the run is stopped then), and what a thread threw.
  void serve();
  void stop() noexcept;

  /// What the guest is doing; at most twice a second, one caller at a time.
  Live::Look look() { return live_.look(); }

  Counters counters() const;
  const Source& source() const noexcept { return *state_.source; }
  /// How much the prefetcher had brought by when, in CLOCK_MONOTONIC nanoseconds; after serve().
  std::vector<PrefetchMark> prefetch_marks() const;
  /// The readers, then the rings' threads, then the prefetcher's.
  const std::vector<ThreadInfo>& threads() const noexcept { return infos_; }
  ThreadName name_of(std::size_t index) const noexcept;

  /// By page, 1 for each that the prefetcher has brought; empty without one. After serve().
  const std::vector<std::uint8_t>& brought() const noexcept { return state_.brought; }
  /// Of a foreign VMM, after serve(): the bytes of its fault records, stamps in CLOCK_MONOTONIC nanoseconds, and the thread of
  /// each (0: not known).
  std::vector<std::byte> logged_faults() const;
  std::vector<std::uint32_t> logged_tids() const;
  /// Pages of the first mapping by their state, in the order of kPageStateNames.
  std::array<std::uint64_t, kPageStateNames.size()> page_states() const noexcept;

 private:
  void start_threads();
  const CpuList& cpus_of(std::uint32_t reader) const noexcept;

  ServerState state_;
  std::vector<ThreadInfo> infos_;
  std::vector<Counters> own_counters_;  ///< of threads that the guest has no room for
  std::vector<PrefetchMark> prefetch_marks_;
  TickLine line_;
  Live live_;
  ServerThreads threads_;
};

}  // namespace uffd
