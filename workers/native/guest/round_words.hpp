// What a guest's processes share of its rounds: words in the shared header that only grow.
#pragma once

#include <atomic>
#include <cstdint>

#include "kernel/futex.hpp"

namespace uffd {

/// What ended the rounds of a run.
enum class RoundsEnded : std::uint32_t {
  not_yet,
  measured,  ///< the measured time asked for is reached
  limit,     ///< rounds_limit is
  records,   ///< the records of another round would have no room
  outside,   ///< a gated guest: the rounds of a run of several guests end together
};

/// In the shared header.
struct alignas(64) RoundWords {
  FutexWord met;       ///< arrivals of VMM processes at the steps between rounds, of all steps together
  FutexWord finished;  ///< rounds that every vCPU has finished
  FutexWord prepared;  ///< rounds whose page states are ready, beyond the first, which is prepared before the vCPUs start
  FutexWord decided;   ///< rounds that are to be run, beyond the first
  FutexWord over;      ///< RoundsEnded: no further round
  std::atomic<std::uint32_t> full;  ///< 1: a vCPU has no room for the records of another round
  std::atomic<std::uint64_t> measured_ns;
};

/// Lets everything that waits for the rounds look again: at a stop, or at their end.
inline void wake_rounds(RoundWords& words) noexcept {
  for (FutexWord* word : {&words.met, &words.finished, &words.prepared, &words.decided, &words.over})
    futex_wake(*word, 0x7fffffff);
}

}  // namespace uffd
