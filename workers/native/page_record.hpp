// What user space knows of each page of one mapping: a byte a page, atomic, in a memfd shared by the VMM process and the
// page server. "Mapped" is a fact of a mapping, not of a process, so each mapping has a record of its own.
//
// Byte: low 3 bits the state; bit 3 the owner of an in-flight page (0: a vCPU, 1: a reader); bits 4-7 the owner's epoch, so
// that a page server that takes over can tell its predecessor's claims from its own and reclaim them.
#pragma once

#include <atomic>
#include <cstdint>

namespace uffd {

enum class PageState : std::uint8_t { unresolved, in_flight, resolved, poisoned, discarded };
const char* page_state_name(PageState state);

class PageRecord {
 public:
  PageRecord() = default;
  explicit PageRecord(std::atomic<std::uint8_t>* bytes) : bytes_(bytes) {}

  static constexpr PageState state_of(std::uint8_t byte) { return static_cast<PageState>(byte & 7); }
  static constexpr std::uint8_t vcpu_claim() { return static_cast<std::uint8_t>(PageState::in_flight); }
  static constexpr std::uint8_t reader_claim(unsigned epoch) {
    return static_cast<std::uint8_t>(static_cast<unsigned>(PageState::in_flight) | 8u | (epoch & 15u) << 4);
  }

  PageState state(std::uint64_t page) const noexcept { return state_of(bytes_[page].load(std::memory_order_acquire)); }
  /// Takes an unresolved or discarded page in hand; false when somebody else has it or it is done.
  bool claim(std::uint64_t page, std::uint8_t claim) const noexcept {
    std::uint8_t byte = bytes_[page].load(std::memory_order_relaxed);
    const PageState state = state_of(byte);
    if (state != PageState::unresolved && state != PageState::discarded) return false;
    return bytes_[page].compare_exchange_strong(byte, claim, std::memory_order_acq_rel);
  }
  void set(std::uint64_t page, PageState state) const noexcept {
    bytes_[page].store(static_cast<std::uint8_t>(state), std::memory_order_release);
  }

 private:
  std::atomic<std::uint8_t>* bytes_ = nullptr;
};

inline const char* page_state_name(PageState state) {
  switch (state) {
    case PageState::unresolved: return "unresolved";
    case PageState::in_flight: return "in flight";
    case PageState::resolved: return "resolved";
    case PageState::poisoned: return "poisoned";
    case PageState::discarded: return "discarded";
  }
  return "?";
}

}  // namespace uffd
