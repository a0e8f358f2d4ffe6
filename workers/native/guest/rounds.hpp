// A run is rounds of one configuration: the page states are prepared, all vCPUs are released at once, each walks its order, the
// clock stops. Between two rounds the guest's processes agree here, in the shared memory. Every word only grows, so no reset can
// race with a waiter.
#pragma once

#include <atomic>
#include <cstdint>

#include "kernel/clock.hpp"
#include "kernel/futex.hpp"

namespace uffd {

class Guest;

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

struct RoundsConfig {
  double measure_s = 0.0;
  std::uint32_t limit = 1;
};

/// For a vCPU that has finished `finished` rounds: waits until the next one's page states are ready. False: there is none, or
/// the run is being stopped.
bool wait_for_next_round(const Guest& guest, std::uint32_t finished) noexcept;

/// A step between rounds, number `step` of all of the guest's from 1 on: returns when each of its VMM processes has reached it.
/// False: the run is being stopped, by this call when one has not arrived within `patience_s`; `what` names the step.
bool meet(const Guest& guest, std::uint32_t step, double patience_s, const char* what);

/// One VMM process of the guest, when all have met after `finished` rounds: adds the measured time and, unless the guest is
/// gated, decides whether there is another round.
void end_round(const Guest& guest, std::uint32_t finished, const RoundsConfig& config) noexcept;
/// Every VMM process of the guest: whether there is a round after `finished`; waits until it is decided. False too when the run
/// is being stopped.
bool another_round(const Guest& guest, std::uint32_t finished) noexcept;
/// The page states of the round after `finished` are ready: its vCPUs go to the barrier.
void prepared_round(const Guest& guest, std::uint32_t finished) noexcept;

/// Gated: waits until every vCPU has finished `finished` rounds. Nanoseconds measured so far; 0: not within the time, or the run
/// is being stopped or over.
std::uint64_t wait_finished(const Guest& guest, std::uint32_t finished, std::uint64_t timeout_ns) noexcept;
/// Whether there is a round after `finished`; for a gated guest the driver says so.
void decide(const Guest& guest, std::uint32_t finished, bool another) noexcept;

/// What ended the rounds, as results name it; empty while they go on.
const char* rounds_ended_name(const Guest& guest) noexcept;

/// Lets everything that waits here look at the stop.
void wake_rounds(RoundWords& words) noexcept;

}  // namespace uffd
