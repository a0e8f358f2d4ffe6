// Restore::eager: the first vCPU of a VMM process to leave the barrier brings in and maps everything, the others wait for it.
// What the page server has not got yet is asked for block by block, as an exiting vCPU would ask.
#pragma once

#include <atomic>
#include <cstdint>

#include "kernel/futex.hpp"

namespace uffd {

class PopulateFirst {
 public:
  /// True for the vCPU that is to do it.
  bool take() noexcept { return !taken_.exchange(true, std::memory_order_acq_rel); }
  // relaxed: progress, for the watchdog
  void reached(std::uint64_t page) noexcept { page_.store(page, std::memory_order_relaxed); }
  std::uint64_t page() const noexcept { return page_.load(std::memory_order_relaxed); }  // relaxed: likewise
  void finish() noexcept {
    done_.store(1, std::memory_order_release);
    futex_wake(done_, 0x7fffffff);
  }
  /// Waits a while; whether it is done.
  bool wait(std::uint64_t timeout_ns) noexcept {
    if (done_.load(std::memory_order_acquire) == 0) futex_wait(done_, 0, timeout_ns);
    return done_.load(std::memory_order_acquire) != 0;
  }

 private:
  std::atomic<bool> taken_{false};
  std::atomic<std::uint64_t> page_{0};
  FutexWord done_{0};
};

}  // namespace uffd
