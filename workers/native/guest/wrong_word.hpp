// Words of guest memory that are not what their page's contents should be: how many, and the first of them.
#pragma once

#include <cstdint>
#include <string>

#include "guest/contents.hpp"

namespace uffd {

struct WrongWord {
  std::uint64_t count = 0, page = 0, index = 0, found = 0;

  void add(const WrongWord& more) noexcept {
    const std::uint64_t before = count;
    if (before == 0 && more.count != 0) *this = more;
    count = before + more.count;
  }
  void add_those_of(const Contents& contents, std::uint64_t of_page, const std::uint64_t* words) noexcept {
    std::uint64_t first = 0;
    if (const std::uint64_t wrong = contents.wrong_words(of_page, words, first); wrong != 0)
      add({wrong, of_page, first, words[first]});
  }
};

/// What a word or a page of zeros means that a handler which is not ours should have brought.
inline constexpr const char* kOfZeros =
    "; zeros: the handler served a zero page, or ended the registration (UFFDIO_UNREGISTER, or the last descriptor of the "
    "userfaultfd closed)";
/// What a page means that cannot be read, under such a handler.
inline constexpr const char* kOfPoison = "; the handler poisoned it (UFFDIO_POISON)";

/// "page P, word W: found ..., expected ..."; a right word is wrong only in a page that was dropped.
std::string describe_wrong_word(std::uint64_t page, std::uint64_t index, std::uint64_t found, std::uint64_t expected);
/// A word of a page that must be zeros.
std::string describe_word_of_dropped(std::uint64_t page, std::uint64_t index, std::uint64_t found);

}  // namespace uffd
