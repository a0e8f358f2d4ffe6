// Contents of a page of shared memory, written where every mapping of the guest finds them.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "guest/guest.hpp"
#include "kernel/error.hpp"

namespace uffd {

/// Whether contents may have to be brought again while a mapping believes it has the page: its record says resolved, and no
/// event has reported that another mapping's balloon has removed the page. Then a resolve may meet a page that is being written.
inline bool written_while_mapped(const Guest& guest) noexcept {
  return guest.config().drops && guest.config().memory == MemoryType::shmem;
}

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

/// Writes the whole page by one call, under whose lock of the page nothing maps it: UFFDIO_CONTINUE waits for that lock. False,
/// and the run is stopped by name, when it cannot be written.
inline bool write_at_once(const Guest& guest, std::uint64_t page, const std::byte* from) {
  const std::uint64_t bytes = guest.config().page_bytes;
  const ssize_t written = ::pwrite(guest.region_fd(), from, bytes, static_cast<off_t>(page * bytes));
  if (written == static_cast<ssize_t>(bytes)) return true;
  guest.stop(KernelError("pwrite of the contents of page " + std::to_string(page), written < 0 ? errno : ENOMEM).what());
  return false;
}

/// The page's contents from a buffer of the caller's. False, and the run is stopped by name, when there is no memory for it.
inline bool write_page(const Guest& guest, std::byte* alias, std::uint64_t page, const std::byte* from) {
  if (written_while_mapped(guest)) return write_at_once(guest, page, from);
  if (!allocate_page(guest, alias, page)) return false;
  std::memcpy(alias + page * guest.config().page_bytes, from, guest.config().page_bytes);
  return true;
}

}  // namespace uffd
