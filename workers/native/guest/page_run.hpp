// Pages of the guest region that lie side by side.
#pragma once

#include <cstdint>

namespace uffd {

struct PageRun {
  std::uint64_t first = 0;
  std::uint32_t count = 0;
};

/// The part of `run` around `page`, `page` included: up to the next page on either side that is not `good`.
template <typename Good>
PageRun around(const PageRun& run, std::uint64_t page, const Good& good) {
  std::uint64_t first = page, end = page + 1;
  while (first > run.first && good(first - 1)) --first;
  while (end < run.first + run.count && good(end)) ++end;
  return {first, static_cast<std::uint32_t>(end - first)};
}

}  // namespace uffd
