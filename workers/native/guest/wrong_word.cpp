#include "guest/wrong_word.hpp"

#include <cstdio>

namespace uffd {

namespace {

std::string describe(std::uint64_t page, std::uint64_t index, std::uint64_t found, std::uint64_t expected) {
  char text[128];
  std::snprintf(text, sizeof text, "page %llu, word %llu: found 0x%016llx, expected 0x%016llx",
                static_cast<unsigned long long>(page), static_cast<unsigned long long>(index),
                static_cast<unsigned long long>(found), static_cast<unsigned long long>(expected));
  return text;
}

}  // namespace

std::string describe_wrong_word(std::uint64_t page, std::uint64_t index, std::uint64_t found, std::uint64_t expected) {
  return found == expected ? describe_word_of_dropped(page, index, found) : describe(page, index, found, expected);
}

std::string describe_word_of_dropped(std::uint64_t page, std::uint64_t index, std::uint64_t found) {
  return describe(page, index, found, 0) + "; the balloon had dropped the page, so it must read as zeros";
}

}  // namespace uffd
