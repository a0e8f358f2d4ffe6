// Pages whose contents the source could not give, for which the page server answers `poisoned`; and how a run of pages is cut.
#pragma once

#include <cstdint>

#include "guest/guest.hpp"
#include "guest/page_run.hpp"

namespace uffd {

inline bool poisoned_at_source(const Guest& guest, std::uint64_t page) noexcept {
  return guest.kinds()[page] == static_cast<std::uint8_t>(Kind::poisoned) && !guest.config().poisoned_when_resolved;
}

/// The part of `run` around `page` without poison; `page` alone when it is poisoned itself.
inline PageRun around_poison(const Guest& guest, const PageRun& run, std::uint64_t page) noexcept {
  if (poisoned_at_source(guest, page)) return {page, 1};
  return around(run, page, [&guest](std::uint64_t other) { return !poisoned_at_source(guest, other); });
}

/// The part of `run` around `page` whose contents are complete; count is 0 when those of `page` are not. A page whose contents
/// are here does not wait for neighbours whose contents are not.
inline PageRun around_complete(const Guest& guest, const PageRun& run, std::uint64_t page) noexcept {
  if (!guest.complete(page)) return {page, 0};
  if (guest.complete(run)) return run;
  return around(run, page, [&guest](std::uint64_t other) { return guest.complete(other); });
}

}  // namespace uffd
