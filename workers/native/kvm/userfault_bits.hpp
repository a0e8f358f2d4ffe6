// What KVM_MEM_USERFAULT reads before it looks for a page: a bit a 4-KiB page of the slot, set while an access to it is to exit.
// A kernel with KVM_MEM_EXIT_ON_MISSING asks the page tables instead and never looks here. No released kernel has either, so
// nothing but these bits themselves could be tried: the kernel's side of them is as the patches of January 2025 have it.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "guest/page_record.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

class UserfaultBits {
 public:
  UserfaultBits() = default;  ///< of a slot without them
  /// Every page of `bytes` is to exit.
  explicit UserfaultBits(std::uint64_t bytes) : words_((bytes / kBasePageBytes + 63) / 64, ~0ull) {}

  std::uint64_t address() const noexcept { return reinterpret_cast<std::uint64_t>(words_.data()); }
  bool there() const noexcept { return !words_.empty(); }
  /// Before a round: every page is to exit but those that are resolved already. No vCPU runs.
  void begin_round(const PageRecord& record, std::uint64_t pages, std::uint64_t page_bytes) noexcept {
    for (std::uint64_t& word : words_) std::atomic_ref(word).store(~0ull, std::memory_order_release);
    for (std::uint64_t page = 0; page < pages; ++page)
      if (record.state(page) == PageState::resolved) clear(page * page_bytes, page_bytes);
  }
  /// The pages of `bytes` at the offset `at` are there; whatever was written to them before, KVM sees.
  void clear(std::uint64_t at, std::uint64_t bytes) noexcept {
    for (std::uint64_t page = at / kBasePageBytes; page < (at + bytes) / kBasePageBytes; ++page)
      std::atomic_ref(words_[page / 64]).fetch_and(~(1ull << page % 64), std::memory_order_release);
  }

 private:
  std::vector<std::uint64_t> words_;
};

}  // namespace uffd
