// What the vCPUs of one VMM process share while they run.
#pragma once

#include <cstddef>
#include <cstdint>

#include "guest/guest.hpp"
#include "guest/populate_first.hpp"
#include "resolve/resolver.hpp"
#include "resolve/strategy.hpp"
#include "vcpu/access_account.hpp"

namespace uffd {

struct VmmShared {
  const Guest& guest;
  const Strategy& strategy;
  ExitKind exit;
  bool userfaultfd;
  bool external;                  ///< a handler that is not ours resolves
  const DroppedPages* dropped;    ///< under such a handler with a balloon; else null
  PopulateFirst* populate_first;  ///< null unless everything is brought in before the first access
  std::uint32_t populate_pages;   ///< then: pages asked for at a time
  bool eexist_only;               ///< exits are answered without the page record
  bool crash_on_memory_error;     ///< the VMM process ends instead of telling the guest
  bool count_mmap_lock;           ///< each vCPU counts the mmap_lock it takes for reading
  bool track_removes;             ///< a page that is gone and recorded as resolved may have been dropped: ask the readers
  MemoryType memory;
  Resolver& resolver;
  std::byte* region;  ///< the vCPUs' mapping
  std::uint64_t page_bytes;
  Verify verify;
  std::uint64_t sample_every;
  std::uint64_t record_capacity;
};

}  // namespace uffd
