// What a guest page holds: a function of (seed, page), so that any page can be made and checked anywhere; or what a snapshot file
// holds, whatever that is. Which word of a page a vCPU touches is a function of (seed, page) either way.
// base = splitmix64(seed ^ page * kPageStride); word i = base + i * kWordStride (mod 2^64). A sum a word keeps both filling
// and checking at memory speed (the compiler vectorises them).
#pragma once

#include <cstddef>
#include <cstdint>

namespace uffd {

class SnapshotFile;

class Contents {
 public:
  Contents(std::uint64_t seed, std::uint64_t page_bytes) noexcept : seed_(seed), words_(page_bytes / 8) {}
  /// From now on they are those of a snapshot. `touched`: of each page, the word a vCPU touches.
  void take_from_file(const std::uint64_t* touched) noexcept { touched_ = touched; }
  void take_from_file(const SnapshotFile& file) noexcept { file_ = &file; }
  bool of_file() const noexcept { return touched_ != nullptr; }

  std::uint64_t base(std::uint64_t page) const noexcept {
    std::uint64_t x = (seed_ ^ (page * 0xD1B54A32D192ED03ull)) + kWordStride;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
  }
  /// Of seeded contents.
  static std::uint64_t word(std::uint64_t base, std::uint64_t index) noexcept { return base + index * kWordStride; }
  /// The word of the page that a vCPU touches: a different one on each page, so a page published half filled is found.
  std::uint64_t touched_word(std::uint64_t base) const noexcept { return (base >> 40) & (words_ - 1); }
  /// What that word holds; `base`: of its page.
  [[gnu::always_inline]] std::uint64_t touched_value(std::uint64_t page, std::uint64_t base) const noexcept {
    if (touched_ == nullptr) [[likely]]
      return word(base, touched_word(base));
    return touched_[page];
  }
  /// What a word that was checked should have been: of a snapshot the touched one alone.
  std::uint64_t expected(std::uint64_t page, std::uint64_t index) const noexcept {
    return index == touched_word(base(page)) ? touched_value(page, base(page)) : word(base(page), index);
  }

  /// Throws KernelError when the snapshot cannot be read.
  void fill(std::uint64_t page, void* to) const {
    if (of_file()) return copy_from_file(page, to);
    auto* words = static_cast<std::uint64_t*>(to);
    const std::uint64_t first = base(page);
    for (std::uint64_t i = 0; i < words_; ++i) words[i] = word(first, i);
  }

  /// Words of `from` that are not the page's; `index` is the first of them. Of seeded contents.
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
  void copy_from_file(std::uint64_t page, void* to) const;

  static constexpr std::uint64_t kWordStride = 0x9E3779B97F4A7C15ull;
  std::uint64_t seed_;
  std::uint64_t words_;
  const std::uint64_t* touched_ = nullptr;  ///< by page, of a snapshot; null: seeded
  const SnapshotFile* file_ = nullptr;
};

}  // namespace uffd
