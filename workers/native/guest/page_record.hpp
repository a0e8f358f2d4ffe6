// What user space knows of each page of one mapping: a byte a page, atomic, in a memfd shared by the VMM process and the
// page server. "Mapped" is a fact of a mapping, not of a process, so each mapping has a record of its own.
//
// Byte: low 3 bits the state. While in flight, bit 3 is the owner (0: a vCPU, 1: a reader), bits 4-6 the owner's epoch, so
// that a page server that takes over can tell its predecessor's claims from its own and reclaim them, and bit 7 says that the
// page was discarded when it was claimed. Once resolved, bit 7 says that the emulated stage-2 table maps the page
// (ExitKind::probe); it lives here and not in a table of its own because every table looked at on a trip costs a TLB miss, and
// because whoever takes the page away drops the entry with it. Bit 6 says that the page was prepared swapped out and nobody has
// touched it since: the next touch is a fault to be recorded.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace uffd {

enum class PageState : std::uint8_t { unresolved, in_flight, resolved, poisoned, discarded };
inline constexpr std::array kPageStateNames{"unresolved", "in flight", "resolved", "poisoned", "discarded"};
inline const char* page_state_name(PageState state) {
  const auto index = static_cast<std::size_t>(state);
  return index < kPageStateNames.size() ? kPageStateNames[index] : "?";
}

class PageRecord {
 public:
  PageRecord() = default;
  explicit PageRecord(std::atomic<std::uint8_t>* bytes) : bytes_(bytes) {}

  static constexpr PageState state_of(std::uint8_t byte) { return static_cast<PageState>(byte & 7); }
  static constexpr std::uint8_t vcpu_claim() { return static_cast<std::uint8_t>(PageState::in_flight); }
  static constexpr std::uint8_t reader_claim(unsigned epoch) {
    return static_cast<std::uint8_t>(static_cast<unsigned>(PageState::in_flight) | 8u | (epoch & 7u) << 4);
  }

  /// Whether the byte of a page in flight carries this claim.
  static constexpr bool claimed_by(std::uint8_t byte, std::uint8_t claim) { return (byte & ~kWasDiscarded) == claim; }
  static constexpr bool swapped_out(std::uint8_t byte) { return (byte & (7 | kOut)) == kResolvedOut; }
  /// Whether a touch of the page is a fault, as far as is known.
  static constexpr bool faults(std::uint8_t byte) {
    return (byte & (7 | kOut)) != static_cast<std::uint8_t>(PageState::resolved);
  }
  static constexpr bool in_stage2(std::uint8_t byte) { return (byte & (7 | kStage2)) == kMapped; }

  std::uint8_t byte(std::uint64_t page) const noexcept { return bytes_[page].load(std::memory_order_acquire); }
  PageState state(std::uint64_t page) const noexcept { return state_of(byte(page)); }
  /// Takes an unresolved or discarded page in hand; false when somebody else has it or it is done.
  bool claim(std::uint64_t page, std::uint8_t claim) const noexcept {
    std::uint8_t byte = bytes_[page].load(std::memory_order_relaxed);
    const PageState state = state_of(byte);
    if (state != PageState::unresolved && state != PageState::discarded) return false;
    if (state == PageState::discarded) claim |= kWasDiscarded;
    return bytes_[page].compare_exchange_strong(byte, claim, std::memory_order_acq_rel);
  }
  /// Of a page in flight: it had been resolved before, and was dropped.
  bool was_discarded(std::uint64_t page) const noexcept {
    return (bytes_[page].load(std::memory_order_relaxed) & (7 | kWasDiscarded)) == kInFlightAgain;
  }
  /// Its owner gives a claimed page back as it took it.
  void release(std::uint64_t page) const noexcept {
    set(page, was_discarded(page) ? PageState::discarded : PageState::unresolved);
  }
  /// Its owner found a claimed page mapped. One that was discarded is about to be dropped: the remove event comes before the
  /// kernel takes the page away, so it stays discarded.
  void found_mapped(std::uint64_t page) const noexcept {
    set(page, was_discarded(page) ? PageState::discarded : PageState::resolved);
  }
  /// A remove event names the page. False: it is in somebody's hands, ask again.
  bool discard(std::uint64_t page) const noexcept {
    std::uint8_t byte = bytes_[page].load(std::memory_order_acquire);
    while (state_of(byte) == PageState::resolved || state_of(byte) == PageState::poisoned)
      if (bytes_[page].compare_exchange_weak(byte, static_cast<std::uint8_t>(PageState::discarded), std::memory_order_acq_rel))
        return true;
    return state_of(byte) != PageState::in_flight;
  }
  void set(std::uint64_t page, PageState state) const noexcept {
    bytes_[page].store(static_cast<std::uint8_t>(state), std::memory_order_release);
  }
  void set_swapped_out(std::uint64_t page) const noexcept { bytes_[page].store(kResolvedOut, std::memory_order_release); }
  /// The first touch of a page prepared swapped out is over; whether this was it.
  bool set_swapped_in(std::uint64_t page) const noexcept {
    return (bytes_[page].fetch_and(static_cast<std::uint8_t>(~kOut), std::memory_order_relaxed) & kOut) != 0;
  }
  /// Enters a resolved page into the stage-2 table; nothing when it is no longer resolved.
  void enter_stage2(std::uint64_t page) const noexcept {
    std::uint8_t byte = bytes_[page].load(std::memory_order_relaxed);
    if (state_of(byte) == PageState::resolved)
      bytes_[page].compare_exchange_strong(byte, byte | kStage2, std::memory_order_relaxed);
  }
  /// Takes a page out of the stage-2 table, as KVM's MMU notifier does whenever the kernel takes the page away.
  void leave_stage2(std::uint64_t page) const noexcept {
    std::uint8_t byte = bytes_[page].load(std::memory_order_relaxed);
    while (in_stage2(byte) &&
           !bytes_[page].compare_exchange_weak(byte, byte & static_cast<std::uint8_t>(~kStage2), std::memory_order_relaxed)) {
    }
  }

 private:
  static constexpr std::uint8_t kStage2 = 0x80;
  static constexpr std::uint8_t kWasDiscarded = 0x80;
  static constexpr std::uint8_t kInFlightAgain = static_cast<std::uint8_t>(PageState::in_flight) | kWasDiscarded;
  static constexpr std::uint8_t kOut = 0x40;
  static constexpr std::uint8_t kResolvedOut = static_cast<std::uint8_t>(PageState::resolved) | kOut;
  static constexpr std::uint8_t kMapped = static_cast<std::uint8_t>(PageState::resolved) | kStage2;
  std::atomic<std::uint8_t>* bytes_ = nullptr;
};

}  // namespace uffd
