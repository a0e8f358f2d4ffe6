// What a guest is made from.
#pragma once

#include <cstdint>

#include "kernel/mapping.hpp"
#include "kernel/numa.hpp"

namespace uffd {

struct GuestConfig {
  MemoryType memory = MemoryType::shmem;
  std::uint64_t region_bytes = 0;
  std::uint64_t page_bytes = 4096;
  bool transparent_huge_pages = false;
  NumaPolicy numa;  ///< of the region's pages
  std::uint32_t vcpus = 1;
  std::uint32_t vcpus_per_vmm = 1;
  std::uint64_t seed = 0;               ///< of the access orders
  std::uint64_t contents_seed = 0;      ///< of what the pages hold
  std::uint32_t request_pages = 1;      ///< most pages that a vCPU asks the page server for at a time
  std::uint32_t rings = 1;              ///< request rings, each with a thread of the page server
  std::uint32_t server_threads = 0;     ///< of the page server, that count in the shared memory
  bool gated = false;                   ///< the barrier is opened from outside: the guests of a run start together
  bool poisoned_when_resolved = false;  ///< poisoned pages: after they were resolved; else at the source
  std::uint32_t regions = 1;            ///< stretches of a VMM process's mapping, with gaps between
  bool external = false;                ///< an external handler resolves, which notes nothing here
  bool contents_of_file = false;        ///< what the pages hold is a snapshot's; else a function of `contents_seed`
  bool drops = false;                   ///< resolved pages may be taken away again: a balloon is at work

  /// In a memfd that VMM processes map; else a VMM process's own. A VMM that is not ours has huge pages of its own, unless
  /// several processes share them.
  bool in_memfd() const noexcept {
    return memory == MemoryType::shmem || (memory == MemoryType::hugetlb && !(external && vcpus == vcpus_per_vmm));
  }
};

}  // namespace uffd
