#include "guest/wrong_word.hpp"

#include <cstdio>

namespace uffd {

std::string describe_wrong_word(std::uint64_t page, std::uint64_t index, std::uint64_t found, std::uint64_t expected) {
  char text[128];
  std::snprintf(text, sizeof text, "page %llu, word %llu: found 0x%016llx, expected 0x%016llx",
                static_cast<unsigned long long>(page), static_cast<unsigned long long>(index),
                static_cast<unsigned long long>(found), static_cast<unsigned long long>(expected));
  return text;
}

}  // namespace uffd
