// vCPUs that have exited for a page that another thread has in flight: they sleep here until it is settled. A byte of the page
// record is no futex, so pages share a few words.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "guest/page_run.hpp"
#include "kernel/futex.hpp"

namespace uffd {

class PageWaiters {
 public:
  /// Sleeps until the page is settled, at most `timeout_ns`; returns at once when `in_flight()` is false.
  template <typename InFlight>
  void wait(std::uint64_t page, std::uint64_t timeout_ns, const InFlight& in_flight) noexcept {
    Slot& slot = slots_[slot_of(page)];
    slot.asleep.fetch_add(1, std::memory_order_seq_cst);
    const std::uint32_t seen = slot.settled.load(std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);  // the other half of the fence in settled()
    if (in_flight()) futex_wait(slot.settled, seen, timeout_ns);
    slot.asleep.fetch_sub(1, std::memory_order_seq_cst);
  }
  /// After these pages are settled in the record.
  void settled(const PageRun& run) noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);  // a waiter sees the record, or is seen here
    const std::uint64_t last = run.first + (run.count == 0 ? 0 : run.count - 1);
    for (std::uint64_t block = run.first / kPagesOfASlot; block <= last / kPagesOfASlot; ++block) {
      Slot& slot = slots_[block % kSlots];
      if (slot.asleep.load(std::memory_order_seq_cst) == 0) continue;
      slot.settled.fetch_add(1, std::memory_order_seq_cst);
      futex_wake(slot.settled, kEveryWaiter);
    }
  }
  /// Of a run that is being stopped.
  void wake_all() noexcept {
    for (Slot& slot : slots_) {
      slot.settled.fetch_add(1, std::memory_order_seq_cst);
      futex_wake(slot.settled, kEveryWaiter);
    }
  }

 private:
  static constexpr std::uint64_t kSlots = 64, kPagesOfASlot = 16;
  static constexpr int kEveryWaiter = 0x7fffffff;
  struct Slot {
    FutexWord asleep, settled;
  };
  static std::size_t slot_of(std::uint64_t page) noexcept { return page / kPagesOfASlot % kSlots; }

  std::array<Slot, kSlots> slots_;
};

}  // namespace uffd
