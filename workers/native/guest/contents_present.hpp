// Whether the kernel still holds a page's contents: a page of a memfd may have been dropped, and then it is a hole.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "guest/guest.hpp"

namespace uffd {

/// Asks the page cache, swap included. Huge pages have no such question (lseek calls all of a hugetlb memfd data): there it
/// says whether `mapping` has the page in its page table, and a page that is only not mapped passes for gone.
inline bool contents_there(const Guest& guest, std::byte* mapping, std::uint64_t page) noexcept {
  const std::uint64_t bytes = guest.config().page_bytes;
  if (guest.config().memory == MemoryType::hugetlb) {
    unsigned char resident[512] = {};
    return ::mincore(mapping + guest.layout().offset(page), bytes, resident) == 0 && (resident[0] & 1) != 0;
  }
  const auto at = static_cast<off_t>(page * bytes);
  return ::lseek(guest.region_fd(), at, SEEK_DATA) == at;
}

}  // namespace uffd
