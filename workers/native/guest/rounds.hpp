// A run is rounds of one configuration: the page states are prepared, all vCPUs are released at once, each walks its order, the
// clock stops. Between two rounds the guest's processes agree here, in the shared memory. Every word only grows, so no reset can
// race with a waiter.
#pragma once

#include <cstdint>

#include "guest/guest.hpp"

namespace uffd {

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
/// Whether there is a round after `finished`; for a gated guest the driver decides.
void decide(const Guest& guest, std::uint32_t finished, bool another) noexcept;

/// What ended the rounds, as results name it; empty while they go on.
const char* rounds_ended_name(const Guest& guest) noexcept;

}  // namespace uffd
