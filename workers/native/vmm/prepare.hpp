// Bringing every page of one mapping into the state its kind asks for, before the clock starts, and proving it with what the
// kernel says of each: pagemap (bit 63 present, bit 62 in swap or a marker) and mincore (in the page cache).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "disturb/device_mapping.hpp"
#include "guest/counters.hpp"
#include "guest/guest.hpp"
#include "resolve/resolver.hpp"

namespace uffd {

/// Pages by the state they were proven to be in.
struct Prepared {
  std::array<std::uint64_t, kKindNames.size()> pages{};
  std::uint64_t unprepared = 0;  ///< those that were not
  double seconds = 0.0;
};

/// How long pages are paged out for; what is left then stays, and counts as unprepared. A step that does next to nothing for
/// longer than watchdog_s would be taken for stalled.
struct PageoutBounds {
  std::chrono::milliseconds without_progress{6000};
  std::chrono::milliseconds longest{9000};  ///< however slow the progress
};

struct PrepareJob {
  const Guest& guest;
  const Mapping& region;
  const Resolver& resolver;
  bool userfaultfd;
  bool cold;                               ///< a snapshot's pages are not to be in the page cache either
  bool first_vmm;                          ///< shared memory is swapped out by one mapper, before the others map it
  const DeviceMapping* devices = nullptr;  ///< one more mapping: what the host has poisoned is poisoned there too
  bool again = false;  ///< not for the first time: what the page cache holds of poisoned pages has been spoiled
  PageoutBounds pageout{};
};

/// Throws KernelError.
Prepared prepare(const PrepareJob& job);

}  // namespace uffd
