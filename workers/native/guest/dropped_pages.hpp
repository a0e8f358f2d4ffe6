// Under a handler that is not ours, pages that a balloon has dropped: whatever such a page held, it must read as zeros
// afterwards.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace uffd {

class DroppedPages {
 public:
  explicit DroppedPages(std::uint64_t pages) : states_(pages) {}

  void begin(std::uint64_t page) noexcept { move(page, kDropping); }
  void end(std::uint64_t page) noexcept { move(page, kDropped); }
  /// It may read as zeros: the balloon has dropped it, or is about to.
  bool may_be_zero(std::uint64_t page) const noexcept { return states_[page].load(std::memory_order_acquire) != kKept; }
  /// It must.
  bool dropped(std::uint64_t page) const noexcept { return states_[page].load(std::memory_order_acquire) == kDropped; }

 private:
  enum State : std::uint8_t { kKept, kDropping, kDropped };
  void move(std::uint64_t page, State to) noexcept {  // relaxed: the balloon is the only writer
    if (states_[page].load(std::memory_order_relaxed) < to) states_[page].store(to, std::memory_order_release);
  }
  std::vector<std::atomic<std::uint8_t>> states_;
};

}  // namespace uffd
