// What state a page is prepared in before the clock starts. The names are the data set's.
#pragma once

#include <array>
#include <cstdint>

namespace uffd {

enum class Kind : std::uint8_t { hit, minor, absent, swapped, poisoned };
inline constexpr std::array kKindNames{"hit", "minor", "absent", "swapped", "poisoned"};

}  // namespace uffd
