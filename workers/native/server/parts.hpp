// A claimed run as it is installed: in one call, or in parts where some of its pages are zeros or one is to be woken first.
#pragma once

#include <vector>

#include "guest/page_run.hpp"
#include "server/state.hpp"

namespace uffd {

struct Part {
  PageRun run;
  const std::byte* from = nullptr;  ///< contents of the run, for anonymous memory
  bool zero = false;                ///< by UFFDIO_ZEROPAGE
};

/// Parts of a claimed run of a foreign VMM: from the snapshot, or zeros where that has none and where a balloon has dropped
/// pages.
void split_by_zeros(const ServerState& server, const Resolver& resolver, const PageRun& run, std::vector<Part>& parts);
/// `wanted` becomes a part of its own, the first.
void split_off_first(std::uint64_t wanted, std::uint64_t page_bytes, std::vector<Part>& parts);

}  // namespace uffd
