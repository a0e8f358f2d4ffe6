// Under a handler that is not ours, pages that a balloon has dropped: whatever such a page held, it must read as zeros
// afterwards.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "kernel/clock.hpp"

namespace uffd {

class DroppedPages {
 public:
  explicit DroppedPages(std::uint64_t pages) : states_(pages) {}

  /// The balloon is about to drop the page. False: a device writes contents into it just now.
  bool begin(std::uint64_t page) noexcept { return moved(page, kKept, kDropping) || may_be_zero(page); }
  void end(std::uint64_t page) noexcept { moved(page, kDropping, Clock::get().now()); }
  /// A device is about to write contents into the page. False: it is dropped, or another device writes.
  bool begin_write(std::uint64_t page) noexcept { return moved(page, kKept, kWritten); }
  void end_write(std::uint64_t page) noexcept { moved(page, kWritten, kKept); }

  /// It may read as zeros: the balloon has dropped it, or is about to.
  bool may_be_zero(std::uint64_t page) const noexcept { return state(page) >= kDropping; }
  /// It must.
  bool dropped(std::uint64_t page) const noexcept { return state(page) > kDropping; }
  /// The same of an access that was raised then.
  bool dropped_before(std::uint64_t page, Ticks raised) const noexcept { return dropped(page) && state(page) < raised; }
  /// Whether an access may have found a word; `before`: the page was dropped before the access. A word of contents may be zero.
  bool allows(std::uint64_t page, std::uint64_t found, std::uint64_t expected, bool before) const noexcept {
    if (found == 0) return expected == 0 || may_be_zero(page);
    return found == expected && !before;
  }

 private:
  static constexpr Ticks kKept = 0, kWritten = 1, kDropping = 2;  // else when it was dropped first
  Ticks state(std::uint64_t page) const noexcept { return states_[page].load(std::memory_order_acquire); }
  bool moved(std::uint64_t page, Ticks from, Ticks to) noexcept {
    return states_[page].compare_exchange_strong(from, to, std::memory_order_acq_rel);
  }
  std::vector<std::atomic<Ticks>> states_;
};

/// The same of a guest in which nothing is dropped where `dropped` is null.
[[gnu::always_inline]] inline bool allows(const DroppedPages* dropped, std::uint64_t page, std::uint64_t found,
                                          std::uint64_t expected, bool before) noexcept {
  if (dropped == nullptr) [[likely]]
    return found == expected;
  return dropped->allows(page, found, expected, before);
}

}  // namespace uffd
