// User space's record of each page of one mapping: a byte a page, atomic, in a memfd shared by the VMM process and the
// page server. "Mapped" is a fact of a mapping, not of a process, so each mapping has a record of its own. What a byte means and
// may become is the table of page_transitions.hpp.
#pragma once

#include <atomic>
#include <cstdint>

#include "guest/page_transitions.hpp"

namespace uffd {

class PageRecord {
 public:
  PageRecord() = default;
  explicit PageRecord(std::atomic<std::uint8_t>* bytes) : bytes_(bytes) {}

  static constexpr PageState state_of(std::uint8_t byte) { return static_cast<PageState>(byte & page_bits::kState); }
  static constexpr std::uint8_t vcpu_claim() { return static_cast<std::uint8_t>(PageCondition::claimed); }
  static constexpr std::uint8_t reader_claim(unsigned epoch) {
    return static_cast<std::uint8_t>(vcpu_claim() | page_bits::kByReader | (epoch << page_bits::kEpochShift & page_bits::kEpoch));
  }

  /// Whether the byte of a page in flight carries this claim.
  static constexpr bool claimed_by(std::uint8_t byte, std::uint8_t claim) { return (byte & ~page_bits::kWasDiscarded) == claim; }
  static constexpr bool swapped_out(std::uint8_t byte) { return (byte & ~page_bits::kInStage2) == kSwappedOut; }
  /// Whether a touch of the page is a fault, as far as is known.
  static constexpr bool faults(std::uint8_t byte) { return (byte & ~page_bits::kInStage2) != kResolved; }
  static constexpr bool in_stage2(std::uint8_t byte) { return (byte & ~page_bits::kSwappedOut) == kInStage2; }

  std::uint8_t byte(std::uint64_t page) const noexcept { return bytes_[page].load(std::memory_order_acquire); }
  PageState state(std::uint64_t page) const noexcept { return state_of(byte(page)); }
  static constexpr auto kMapped = static_cast<std::uint8_t>(PageCondition::resolved);
  /// Of a page in flight: it had been resolved before, and was dropped.
  bool was_discarded(std::uint64_t page) const noexcept {
    // relaxed: of the owner, who alone changes it
    return page_condition(bytes_[page].load(std::memory_order_relaxed)) == PageCondition::claimed_again;
  }

  // Moves of any thread: one atomic step each. False: the table does not allow it as the page is now.

  /// Takes an unresolved or discarded page; `claim` is vcpu_claim() or reader_claim().
  bool claim(std::uint64_t page, std::uint8_t claim) const noexcept {
    return step<PageMove::claim, kOnce>(page, static_cast<std::uint8_t>(claim & ~vcpu_claim()));
  }
  /// A remove event names the page. False: it is in flight, ask again.
  bool discard(std::uint64_t page) const noexcept { return step<PageMove::discard>(page) || state(page) != PageState::in_flight; }
  bool drop(std::uint64_t page) const noexcept { return step<PageMove::drop>(page); }
  bool resolve_unasked(std::uint64_t page) const noexcept { return step<PageMove::resolve_unasked>(page); }
  bool enter_stage2(std::uint64_t page) const noexcept { return step<PageMove::enter_stage2>(page); }
  /// As KVM's MMU notifier does whenever the kernel takes the page away.
  bool leave_stage2(std::uint64_t page) const noexcept { return step<PageMove::leave_stage2>(page); }
  /// Whether this was the first touch of a page prepared swapped out.
  bool swap_in(std::uint64_t page) const noexcept { return step<PageMove::swap_in>(page); }
  bool swap_out(std::uint64_t page) const noexcept { return step<PageMove::swap_out>(page); }
  bool hide_poison(std::uint64_t page) const noexcept { return step<PageMove::hide_poison>(page); }

  // Moves of the owner of a page in flight: no other thread changes such a byte, so a store will do.

  bool release(std::uint64_t page) const noexcept { return settle<PageMove::release>(page); }
  bool resolve(std::uint64_t page) const noexcept { return settle<PageMove::resolve>(page); }
  bool find_mapped(std::uint64_t page) const noexcept { return settle<PageMove::find_mapped>(page); }
  bool poison(std::uint64_t page) const noexcept { return settle<PageMove::poison>(page); }

 private:
  static constexpr bool kOnce = true;
  static constexpr int kResolved = static_cast<int>(PageCondition::resolved);
  static constexpr int kSwappedOut = static_cast<int>(PageCondition::swapped_out);
  static constexpr int kInStage2 = static_cast<int>(PageCondition::in_stage2);

  /// `owner`: bits of the claim. `once`: a page that changes meanwhile is another thread's now.
  template <PageMove kMove, bool once = false>
  [[gnu::always_inline]] bool step(std::uint64_t page, std::uint8_t owner = 0) const noexcept {
    std::uint8_t byte = bytes_[page].load(std::memory_order_acquire);
    while (true) {
      PageCondition condition = page_condition(byte);
      if (!move_page<kMove>(condition)) return false;
      const auto next = static_cast<std::uint8_t>(static_cast<std::uint8_t>(condition) | owner);
      if (bytes_[page].compare_exchange_strong(byte, next, std::memory_order_acq_rel, std::memory_order_acquire)) return true;
      if (once) return false;
    }
  }
  template <PageMove kMove>
  [[gnu::always_inline]] bool settle(std::uint64_t page) const noexcept {
    // relaxed: of the owner, who alone changes it
    PageCondition condition = page_condition(bytes_[page].load(std::memory_order_relaxed));
    if (!move_page<kMove>(condition)) return false;
    bytes_[page].store(static_cast<std::uint8_t>(condition), std::memory_order_release);
    return true;
  }

  std::atomic<std::uint8_t>* bytes_ = nullptr;
};

}  // namespace uffd
