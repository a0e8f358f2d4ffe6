// The ring on which vCPUs ask the page server for contents.
#pragma once

#include <atomic>
#include <cstdint>

#include "kernel/futex.hpp"

namespace uffd {

/// Where vCPUs that have exited ask, and one thread of the page server answers. vCPU v asks at ring v % rings, so that a ring's
/// thread, placed as the reader of its number is, has its vCPUs where that reader has them. The requests follow: a bit for
/// each of its vCPUs, set and taken by one instruction each, so that a process killed at whatever point leaves no half-made
/// entry for the others to wait behind.
struct alignas(64) RequestRing {
  FutexWord doorbell;  ///< bumped with every request
  FutexWord asleep;    ///< 1 while its thread sleeps on `doorbell`: a request has to wake it

  std::atomic<std::uint64_t>* asking() noexcept { return reinterpret_cast<std::atomic<std::uint64_t>*>(this + 1); }
  /// After a request, or a stop: its thread looks again.
  void wake() noexcept {
    doorbell.fetch_add(1, std::memory_order_seq_cst);
    if (asleep.load(std::memory_order_seq_cst) != 0) futex_wake(doorbell, 1);
  }
};

}  // namespace uffd
