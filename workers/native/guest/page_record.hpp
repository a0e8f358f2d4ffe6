// User space's record of each page of one mapping: a byte a page, atomic, in a memfd shared by the VMM process and the
// page server. "Mapped" is a fact of a mapping, not of a process, so each mapping has a record of its own. What a byte means and
// may become is the table of page_transitions.hpp.
//
// Over a run of pages, eight aligned bytes that are alike make their move together, by one 64-bit access; other threads may
// access single bytes of them at the same time. C++ has no word for atomic accesses of two sizes to one place, hence the
// builtins; the processors have. x86-64: a locked access owns the cache line, whatever its size, and an aligned store or load is
// one access. arm64: aligned accesses of up to eight bytes are single-copy atomic, an exclusive store fails when any byte of its
// granule was written since, and CAS of LSE is one access. So of two claims that overlap, the second sees every byte of the
// first.
#pragma once

#include <atomic>
#include <cstdint>

#include "guest/page_run.hpp"
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
  /// Whether a touch is none and the emulated stage-2 table maps the page; `entered`: there is no such table.
  static constexpr bool no_fault(std::uint8_t byte, bool entered) {
    return (byte | (entered ? page_bits::kInStage2 : 0)) == kInStage2;
  }
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

  // The same over runs of pages.

  /// Claims the page, and next to it the free pages of the stretch from `low` to `high` that it is in. count is 0 when the page
  /// is not free.
  PageRun claim_around(std::uint64_t page, std::uint64_t low, std::uint64_t high, std::uint8_t claim) const noexcept {
    PageRun run{page, 1};
    if (const std::uint64_t before = in_eight(page); page - low >= before && claim_eight(page - before, high, claim))
      run = {page - before, kEight};
    else if (!this->claim(page, claim))
      return {page, 0};
    std::uint64_t first = run.first;
    while (first != low) {
      if (in_eight(first) == 0 && first - low >= kEight && claim_eight(first - kEight, first, claim))
        first -= kEight;
      else if (this->claim(first - 1, claim))
        --first;
      else
        break;
    }
    const std::uint64_t end = run.first + run.count;
    return {first, static_cast<std::uint32_t>(end - first) + claim_onwards(end, high, claim)};
  }
  /// Claims pages from `page` on, up to `end` or the first that is not free: so many.
  std::uint32_t claim_onwards(std::uint64_t page, std::uint64_t end, std::uint8_t claim) const noexcept {
    std::uint64_t at = page;
    while (at < end) {
      if (in_eight(at) == 0 && claim_eight(at, end, claim))
        at += kEight;
      else if (this->claim(at, claim))
        ++at;
      else
        break;
    }
    return static_cast<std::uint32_t>(at - page);
  }
  /// The moves of the owner, each page's as one step. `settled(part, again)` of each part of the run; `again`: its pages had been
  /// discarded when they were claimed.
  template <PageMove... kMoves, typename Settled>
  [[gnu::always_inline]] void settle_run(const PageRun& run, const Settled& settled) const noexcept {
    const std::uint64_t end = run.first + run.count;
    for (std::uint64_t at = run.first; at != end;) {
      const bool again = was_discarded(at);
      const bool eight = in_eight(at) == 0 && end - at >= kEight && settle_eight<kMoves...>(at);
      if (!eight) settle<kMoves...>(at);
      const PageRun part{at, eight ? kEight : 1};
      settled(part, again);
      at += part.count;
    }
  }
  void release_run(const PageRun& run) const noexcept {
    settle_run<PageMove::release>(run, [](const PageRun&, bool) {});
  }

 private:
  static constexpr bool kOnce = true;
  static constexpr std::uint32_t kEight = 8;
  using Eight [[gnu::may_alias]] = std::uint64_t;

  static constexpr std::uint64_t eight_of(std::uint8_t byte) { return byte * 0x0101010101010101u; }
  Eight* eight_at(std::uint64_t page) const noexcept { return reinterpret_cast<Eight*>(bytes_ + page); }
  /// Which of its eight bytes that of the page is.
  std::uint64_t in_eight(std::uint64_t page) const noexcept { return reinterpret_cast<std::uintptr_t>(bytes_ + page) % kEight; }
  /// What the eight bytes are, in `eight`; false where they are not alike.
  [[gnu::always_inline]] bool alike(std::uint64_t first, std::uint64_t& eight, int order) const noexcept {
    eight = __atomic_load_n(eight_at(first), order);
    return eight == eight_of(static_cast<std::uint8_t>(eight));
  }

  /// Claims the eight pages from `first` on, all or none of them. False: they are not before `end`, not all free and alike, or
  /// one of them was changed meanwhile.
  [[gnu::always_inline]] bool claim_eight(std::uint64_t first, std::uint64_t end, std::uint8_t claim) const noexcept {
    std::uint64_t eight = 0;
    if (end - first < kEight || !alike(first, eight, __ATOMIC_ACQUIRE)) return false;
    PageCondition condition = page_condition(static_cast<std::uint8_t>(eight));
    if (!move_page<PageMove::claim>(condition)) return false;
    const auto next = static_cast<std::uint8_t>(static_cast<std::uint8_t>(condition) | (claim & ~vcpu_claim()));
    return __atomic_compare_exchange_n(eight_at(first), &eight, eight_of(next), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  }
  template <PageMove... kMoves>
  [[gnu::always_inline]] bool settle_eight(std::uint64_t first) const noexcept {
    std::uint64_t eight = 0;
    if (!alike(first, eight, __ATOMIC_RELAXED)) return false;  // relaxed: of the owner, who alone changes them
    PageCondition condition = page_condition(static_cast<std::uint8_t>(eight));
    if (!make_moves<kMoves...>(condition)) return false;
    __atomic_store_n(eight_at(first), eight_of(static_cast<std::uint8_t>(condition)), __ATOMIC_RELEASE);
    return true;
  }

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
  template <PageMove... kMoves>
  [[gnu::always_inline]] bool settle(std::uint64_t page) const noexcept {
    // relaxed: of the owner, who alone changes it
    PageCondition condition = page_condition(bytes_[page].load(std::memory_order_relaxed));
    if (!make_moves<kMoves...>(condition)) return false;
    bytes_[page].store(static_cast<std::uint8_t>(condition), std::memory_order_release);
    return true;
  }

  std::atomic<std::uint8_t>* bytes_ = nullptr;
};

}  // namespace uffd
