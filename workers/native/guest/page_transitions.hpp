// The one table of page-state transitions: what a page's byte in the record may become, and by which move. Everything else is
// forbidden, and PageRecord refuses it.
//
// A byte is a PageCondition, and for a page in flight its owner beside it. Low 3 bits: the state. What bits 3 to 7 mean depends
// on the state, so each meaning has a name of its own:
//   in flight  bit 3 kByReader     the owner is a reader (a vCPU otherwise)
//              bits 4-6 kEpoch     the reader's epoch: a page server that takes over separates its predecessor's claims from its
//              own bit 7 kWasDiscarded the page was discarded when it was claimed
//   resolved   bit 6 kSwappedOut   prepared swapped out, and not touched since: the next touch is a fault to be recorded
//              bit 7 kInStage2     the emulated stage-2 table maps the page (ExitKind::probe, ExitKind::populate)
// The stage-2 bit is in this byte because every table that is looked at on a trip costs a TLB miss, and because a thread that
// takes the page away drops the entry with it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace uffd {

enum class PageState : std::uint8_t { unresolved, in_flight, resolved, poisoned, discarded };
inline constexpr std::array kPageStateNames{"unresolved", "in flight", "resolved", "poisoned", "discarded"};
inline const char* page_state_name(PageState state) {
  const auto index = static_cast<std::size_t>(state);
  return index < kPageStateNames.size() ? kPageStateNames[index] : "?";
}

namespace page_bits {
inline constexpr std::uint8_t kState = 0x07;
inline constexpr std::uint8_t kByReader = 0x08;
inline constexpr std::uint8_t kEpoch = 0x70;
inline constexpr unsigned kEpochShift = 4;
inline constexpr std::uint8_t kWasDiscarded = 0x80;
inline constexpr std::uint8_t kSwappedOut = 0x40;
inline constexpr std::uint8_t kInStage2 = 0x80;
}  // namespace page_bits

/// A page's byte without the owner of a page in flight.
enum class PageCondition : std::uint8_t {
  unresolved = 0,
  claimed = 1,
  claimed_again = 1 | page_bits::kWasDiscarded,
  resolved = 2,
  in_stage2 = 2 | page_bits::kInStage2,
  swapped_out = 2 | page_bits::kSwappedOut,
  swapped_out_in_stage2 = 2 | page_bits::kSwappedOut | page_bits::kInStage2,
  poisoned = 3,
  discarded = 4,
};
inline constexpr std::array kPageConditions{
    PageCondition::unresolved, PageCondition::claimed,     PageCondition::claimed_again,         PageCondition::resolved,
    PageCondition::in_stage2,  PageCondition::swapped_out, PageCondition::swapped_out_in_stage2, PageCondition::poisoned,
    PageCondition::discarded};

enum class PageMove {
  // Of any thread.
  claim,            ///< takes a free page, to install or poison it
  discard,          ///< a remove event names the page
  drop,             ///< the same of a foreign VMM, whose page is to read as zeros whatever it was. No thread settles it meanwhile
  resolve_unasked,  ///< installed by a thread that goes by EEXIST alone and has claimed nothing
  enter_stage2,     ///< the emulated stage-2 table maps the page
  leave_stage2,     ///< it no longer does
  swap_in,          ///< the first touch of a page that was prepared swapped out is over
  // Of the owner of a page in flight.
  release,      ///< gives it back as it was
  resolve,      ///< has installed it
  find_mapped,  ///< found it mapped. One that was discarded is about to be dropped: its remove event comes before the kernel
                ///< takes the page away, so it stays discarded
  poison,       ///< has poisoned it
  // Of the preparation, before the clock starts.
  swap_out,     ///< the page is in swap
  hide_poison,  ///< poisoned, and not in the VMM's record
};

struct PageTransition {
  PageMove move;
  PageCondition from, to;
};

inline constexpr std::array kPageTransitions = [] {
  using enum PageCondition;
  using M = PageMove;
  return std::array{
      PageTransition{M::claim, unresolved, claimed},
      PageTransition{M::claim, discarded, claimed_again},
      PageTransition{M::discard, resolved, discarded},
      PageTransition{M::discard, in_stage2, discarded},
      PageTransition{M::discard, swapped_out, discarded},
      PageTransition{M::discard, swapped_out_in_stage2, discarded},
      PageTransition{M::discard, poisoned, discarded},
      PageTransition{M::drop, unresolved, discarded},
      PageTransition{M::drop, claimed, claimed_again},
      PageTransition{M::drop, claimed_again, claimed_again},
      PageTransition{M::drop, resolved, discarded},
      PageTransition{M::drop, discarded, discarded},
      PageTransition{M::resolve_unasked, unresolved, resolved},
      PageTransition{M::resolve_unasked, resolved, resolved},
      PageTransition{M::resolve_unasked, in_stage2, resolved},
      PageTransition{M::resolve_unasked, swapped_out, resolved},
      PageTransition{M::resolve_unasked, swapped_out_in_stage2, resolved},
      PageTransition{M::resolve_unasked, poisoned, resolved},
      PageTransition{M::resolve_unasked, discarded, resolved},
      PageTransition{M::enter_stage2, resolved, in_stage2},
      PageTransition{M::enter_stage2, swapped_out, swapped_out_in_stage2},
      PageTransition{M::leave_stage2, in_stage2, resolved},
      PageTransition{M::leave_stage2, swapped_out_in_stage2, swapped_out},
      PageTransition{M::swap_in, swapped_out, resolved},
      PageTransition{M::swap_in, swapped_out_in_stage2, in_stage2},
      PageTransition{M::release, claimed, unresolved},
      PageTransition{M::release, claimed_again, discarded},
      PageTransition{M::resolve, claimed, resolved},
      PageTransition{M::resolve, claimed_again, resolved},
      PageTransition{M::find_mapped, claimed, resolved},
      PageTransition{M::find_mapped, claimed_again, discarded},
      PageTransition{M::poison, claimed, poisoned},
      PageTransition{M::poison, claimed_again, poisoned},
      PageTransition{M::swap_out, unresolved, swapped_out},
      PageTransition{M::swap_out, resolved, swapped_out},
      PageTransition{M::hide_poison, poisoned, resolved},
  };
}();

/// What a byte is, its owner left out.
constexpr PageCondition page_condition(std::uint8_t byte) {
  const bool in_flight = (byte & page_bits::kState) == static_cast<std::uint8_t>(PageState::in_flight);
  return static_cast<PageCondition>(in_flight ? byte & (page_bits::kState | page_bits::kWasDiscarded) : byte);
}

/// Makes `condition` what `kMove` makes of it; false, and nothing changed, where the table has no such transition. Unrolled at
/// compile time into compares: the program inside a KVM guest may refer to no memory of the host, a table least of all.
template <PageMove kMove, std::size_t kAt = 0>
[[gnu::always_inline]] constexpr bool move_page(PageCondition& condition) {
  if constexpr (kAt == kPageTransitions.size()) {
    return false;
  } else if constexpr (kPageTransitions[kAt].move != kMove) {
    return move_page<kMove, kAt + 1>(condition);
  } else {
    if (condition != kPageTransitions[kAt].from) return move_page<kMove, kAt + 1>(condition);
    condition = kPageTransitions[kAt].to;
    return true;
  }
}

/// Several moves, one after the other; false where the table forbids one of them.
template <PageMove... kMoves>
[[gnu::always_inline]] constexpr bool make_moves(PageCondition& condition) {
  return (move_page<kMoves>(condition) && ...);
}

}  // namespace uffd
