// The header of the guest's shared memory: its layout, the start barrier, and how a run is stopped.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "guest/guest_config.hpp"
#include "guest/page_waiters.hpp"
#include "guest/round_words.hpp"
#include "kernel/clock.hpp"
#include "kernel/futex.hpp"

namespace uffd {

struct alignas(64) SharedHeader {
  std::uint64_t magic;
  std::uint32_t version;
  GuestConfig config;
  std::uint64_t kinds_offset, contents_offset, fetching_offset, resolved_offset, rings_offset, vcpus_offset, counters_offset,
      marking_offset, touched_offset, payload_offset, bytes;

  alignas(64) FutexWord arrived;            ///< vCPUs at the barrier, of all rounds together
  FutexWord armed;                          ///< gated: rounds whose vCPUs have all arrived
  FutexWord released;                       ///< rounds whose vCPUs have all arrived and, gated, whose gate was opened
  std::atomic<Ticks> start;                 ///< the releaser's stamp: the common start of the latest round
  std::atomic<std::uint32_t> exits;         ///< 1 when the strategy is meant to avoid sleeping: events are then stray waits
  std::atomic<std::uint64_t> sample_every;  ///< every how-many-th fault of a vCPU leaves a record
  FutexWord stopping;                       ///< 1 once the run was stopped from outside or by a watchdog
  FutexWord ended;                          ///< bumped by each vCPU that ends a round: what the watchdogs sleep on
  std::atomic<std::uint32_t> reason_set;
  char reason[512];

  alignas(64) PageWaiters page_waiters;

  std::atomic<std::uint32_t> server_epoch;  ///< how many page servers have died and been succeeded

  /// Readers that have read events and not answered all of them, each in the slot of its number, modulo kAnsweringSlots.
  static constexpr std::size_t kAnsweringSlots = 256;
  struct alignas(64) Answering {
    std::atomic<std::uint32_t> readers;
    std::atomic<std::uint32_t> times;  ///< one of them has answered all it had
  };
  std::array<Answering, kAnsweringSlots> answering;

  RoundWords rounds;
};

}  // namespace uffd
