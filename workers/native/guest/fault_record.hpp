// What every fault leaves: 64 bytes, a cache line, preallocated in a memfd. The vCPU owns the slot and writes when it raised the
// fault and when the access was done; a reader that serves a sleeping vCPU writes the stages between straight into the same slot,
// so nothing has to be joined afterwards. The slots a reader writes are never reused within a run: a late store hits an old slot.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "guest/page_kind.hpp"
#include "kernel/clock.hpp"

namespace uffd {

/// How a fault ended. The names are the data set's.
enum class FaultOutcome : std::uint8_t {
  resolved,      ///< by the vCPU itself, after an exit
  waited,        ///< asleep in userfaultfd until a reader resolved it
  lost_race,     ///< another thread resolved it first
  populated,     ///< by MADV_POPULATE_WRITE, after an exit
  kernel,        ///< the kernel's own fault, no userfaultfd in it
  memory_error,  ///< the contents are poisoned
  abandoned,     ///< the run ended in the middle of it
  external,      ///< a handler that is not ours brought the page, before the touch or while the vCPU slept in it
};
inline constexpr std::array kOutcomeNames{"resolved", "waited",       "lost_race", "populated",
                                          "kernel",   "memory_error", "abandoned", "external"};

/// How the first exit of a fault arrived. The names are the data set's.
enum class Exit : std::uint8_t {
  none,          ///< it did not: the vCPU slept, or the kernel mapped the page by itself
  signal,        ///< SIGBUS at the touch (thread)
  probe,         ///< not present in pagemap, fast GUP emulated (thread)
  populate,      ///< MADV_POPULATE_WRITE was refused (thread)
  memory_fault,  ///< KVM_RUN failed with EFAULT and KVM_EXIT_MEMORY_FAULT
  efault,        ///< KVM_RUN failed with EFAULT and nothing more; the guest's own note has the page
  mmio,          ///< KVM_EXIT_MMIO inside a memory slot: KVM's own access on the guest's behalf found no page
  mceerr,        ///< SIGBUS BUS_MCEERR_AR to the thread in KVM_RUN: the page is poisoned
};
inline constexpr std::array kExitNames{"none", "signal", "probe", "populate", "memory_fault", "efault", "mmio", "mceerr"};

struct alignas(64) FaultRecord {
  Ticks intended;
  Ticks raised;
  std::atomic<Ticks> delivered;
  std::atomic<Ticks> fetched;
  std::atomic<Ticks> installed;
  Ticks resumed;
  std::atomic<std::uint32_t> page;
  std::uint16_t cpu;
  Kind kind;  ///< filled in after the run: a look at the table of kinds costs a TLB miss
  FaultOutcome outcome;
  Exit exit;
  std::uint8_t emulated_exits;    ///< emulated exits this fault paid for; 255: that many or more
  std::uint8_t emulated_entries;  ///< emulated stage-2 violations without an exit it paid for, likewise
  bool write;
};
static_assert(sizeof(FaultRecord) == 64);
static_assert(std::atomic<Ticks>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free);

}  // namespace uffd
