// Pages whose contents the source could not give: what the page server answers `poisoned` for.
#pragma once

#include <cstdint>

#include "guest/guest.hpp"
#include "resolve/resolver.hpp"

namespace uffd {

inline bool poisoned_at_source(const Guest& guest, std::uint64_t page) noexcept {
  return guest.kinds()[page] == static_cast<std::uint8_t>(Kind::poisoned) && !guest.config().poisoned_when_resolved;
}

/// The part of `run` around `page` that can be had: up to the next poisoned page on either side. `page` alone when it is
/// poisoned itself.
inline PageRun around_poison(const Guest& guest, const PageRun& run, std::uint64_t page) noexcept {
  if (poisoned_at_source(guest, page)) return {page, 1};
  std::uint64_t first = page, end = page + 1;
  while (first > run.first && !poisoned_at_source(guest, first - 1)) --first;
  while (end < run.first + run.count && !poisoned_at_source(guest, end)) ++end;
  return {first, static_cast<std::uint32_t>(end - first)};
}

}  // namespace uffd
