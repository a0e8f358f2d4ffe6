// What every fault leaves: 56 bytes, preallocated in a memfd. The vCPU owns the slot and writes when it raised the fault and
// when the access was done; a reader that serves a sleeping vCPU writes the stages between straight into the same slot, so
// nothing has to be joined afterwards. The slots a reader writes are never reused within a run: a late store hits an old slot.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "clock.hpp"

namespace uffd {

enum class Kind : std::uint8_t { hit, minor, absent, swapped, poisoned };
inline constexpr std::array kKindNames{"hit", "minor", "absent", "swapped", "poisoned"};

/// How a fault ended. The names are the data set's.
enum class FaultOutcome : std::uint8_t {
  resolved,      ///< by the vCPU itself, after an exit
  waited,        ///< asleep in userfaultfd until a reader resolved it
  lost_race,     ///< somebody else resolved it first
  populated,     ///< by MADV_POPULATE_WRITE, after an exit
  kernel,        ///< the kernel's own fault, no userfaultfd in it
  memory_error,  ///< the contents are poisoned
  abandoned,     ///< the run ended in the middle of it
};
inline constexpr std::array kOutcomeNames{"resolved", "waited", "lost_race", "populated", "kernel", "memory_error", "abandoned"};

struct FaultRecord {
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
};
static_assert(sizeof(FaultRecord) == 56);
static_assert(std::atomic<Ticks>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free);

}  // namespace uffd
