// Pages of the guest region that lie side by side.
#pragma once

#include <cstdint>

namespace uffd {

struct PageRun {
  std::uint64_t first = 0;
  std::uint32_t count = 0;
};

}  // namespace uffd
