// Before contents are written through the alias: the page must have memory.
#pragma once

#include <sys/mman.h>

#include <cstdint>

#include "guest/guest.hpp"
#include "kernel/error.hpp"

namespace uffd {

/// False, and the run is stopped by name, when there is no memory for the page. Only a huge page needs this: a write to one that
/// cannot be allocated raises SIGBUS, for example where its reservation went with a hole that was punched.
inline bool allocate_page(const Guest& guest, std::byte* alias, std::uint64_t page) {
  if (guest.config().memory != MemoryType::hugetlb) return true;
  const std::uint64_t bytes = guest.config().page_bytes;
  std::byte* const at = alias + page * bytes;
  if (::madvise(at, bytes, MADV_POPULATE_WRITE) == 0) return true;
  const KernelError refused("MADV_POPULATE_WRITE for the contents of page " + std::to_string(page), errno,
                            reinterpret_cast<std::uint64_t>(at), bytes);
  guest.stop(std::string(refused.what()) + ": no huge page is free for it; raise vm.nr_hugepages");
  return false;
}

}  // namespace uffd
