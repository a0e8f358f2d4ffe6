// What a guest page holds: a function of (seed, page), so that any page can be made and checked anywhere.
// base = splitmix64(seed ^ page * kPageStride); word i = base + i * kWordStride (mod 2^64). A sum a word keeps both filling
// and checking at memory speed (the compiler vectorises them).
#pragma once

#include <cstddef>
#include <cstdint>

namespace uffd {

class Contents {
 public:
  Contents(std::uint64_t seed, std::uint64_t page_bytes) noexcept : seed_(seed), words_(page_bytes / 8) {}

  std::uint64_t base(std::uint64_t page) const noexcept {
    std::uint64_t x = (seed_ ^ (page * 0xD1B54A32D192ED03ull)) + kWordStride;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
  }
  static std::uint64_t word(std::uint64_t base, std::uint64_t index) noexcept { return base + index * kWordStride; }
  /// The word of the page that a vCPU touches: a different one on each page, so a page published half filled is found.
  std::uint64_t touched_word(std::uint64_t base) const noexcept { return (base >> 40) & (words_ - 1); }

  void fill(std::uint64_t page, void* to) const noexcept {
    auto* words = static_cast<std::uint64_t*>(to);
    const std::uint64_t first = base(page);
    for (std::uint64_t i = 0; i < words_; ++i) words[i] = word(first, i);
  }

  /// Words of `from` that are not the page's; `index` is the first of them.
  std::uint64_t wrong_words(std::uint64_t page, const void* from, std::uint64_t& index) const noexcept {
    const auto* words = static_cast<const std::uint64_t*>(from);
    const std::uint64_t first = base(page);
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < words_; ++i) wrong += words[i] != word(first, i);
    if (wrong != 0)
      for (index = 0; words[index] == word(first, index); ++index) {
      }
    return wrong;
  }

 private:
  static constexpr std::uint64_t kWordStride = 0x9E3779B97F4A7C15ull;
  std::uint64_t seed_;
  std::uint64_t words_;
};

}  // namespace uffd
