// Preparing the guest's contents before the clock starts: each page's kind, and the bytes of those that are to be here.
#pragma once

#include <cstdint>
#include <span>

#include "guest/guest.hpp"

namespace uffd {

struct Filled {
  std::uint64_t filled = 0;
  std::uint64_t unprepared = 0;  ///< pages whose presence in the page cache mincore does not confirm
  double seconds = 0.0;
};

/// `kinds`: a byte a page. Throws ConfigError when it does not fit the guest, KernelError.
Filled fill(const Guest& guest, std::span<const std::uint8_t> kinds);
/// Between rounds, when no page is mapped: contents that were fetched are dropped, contents that a balloon has dropped are
/// written again. Throws KernelError.
Filled refill(const Guest& guest);

}  // namespace uffd
