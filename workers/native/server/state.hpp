// What the threads of a page server share: readers, the threads of the rings, the prefetcher.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <vector>

#include "guest/counters.hpp"
#include "guest/guest.hpp"
#include "kernel/placement.hpp"
#include "kernel/thread_usage.hpp"
#include "server/config.hpp"
#include "server/fault_log.hpp"
#include "server/peer.hpp"
#include "source/source.hpp"

namespace uffd {

/// One thread of the page server.
struct ThreadInfo {
  std::uint32_t tid = 0;         ///< 0: never started
  Counters* counters = nullptr;  ///< in the guest's shared memory where it has room for them: there they outlive the process
  CpusSeen seen;
  ThreadUsage usage;  ///< of its whole life
};

struct ServerState {
  /// Throws ConfigError, KernelError.
  ServerState(const Guest& guest, PageServerConfig asked, std::uint32_t threads);

  /// Whether a thread without work spins. Only those that answer do: rings where vCPUs exit, readers where they sleep; the
  /// others would use up the CPU that these are placed on too.
  bool spins(bool for_exits) const noexcept {
    // relaxed: set before the page server starts
    return wait == Wait::spin && for_exits == (guest.header().exits.load(std::memory_order_relaxed) != 0);
  }
  bool stops() const noexcept { return stopping.load(std::memory_order_acquire); }
  /// What a foreign VMM is served from; null for a guest of ours.
  const MappedSnapshot* mapped() const noexcept { return config.source.mapped.get(); }
  /// Held while pages of a foreign VMM are installed, by the threads that do. Its remove events are read and marked with none of
  /// them at it: a page whose event has been read is installed as zeros ever after, and one whose event has not says EAGAIN.
  std::shared_lock<std::shared_mutex> installing() {
    return mapped() != nullptr && config.track_removes ? std::shared_lock(removing) : std::shared_lock<std::shared_mutex>();
  }
  bool anonymous() const noexcept { return guest.config().memory == MemoryType::anon; }
  /// Poisons the page in every mapping of the guest that has it free and is not changing: in the others it is when a vCPU touches
  /// it.
  void poison_in_others(std::uint64_t page, Counters& counters) const noexcept;
  /// More readers than userfaultfds: each reader has one, and some share it. Fewer: each reader has several.
  std::vector<Peer*> peers_of(std::uint32_t reader) const;

  const Guest& guest;
  const PageServerConfig config;
  const Wait wait;
  Mapping alias;
  std::unique_ptr<Source> source;
  std::vector<std::unique_ptr<Peer>> peers;
  std::shared_mutex removing;
  std::unique_ptr<FaultLog> log;      ///< of a foreign VMM
  Mapping zeros;                      ///< as large as the largest page of a foreign VMM, which may have dropped it
  std::vector<std::uint8_t> brought;  ///< by page: 1 once the prefetcher has brought it; empty without one
  std::uint8_t claim;                 ///< ours in the page records
  std::atomic<bool> stopping{false};
};

}  // namespace uffd
