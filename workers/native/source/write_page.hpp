// Contents of a page of shared memory, written where every mapping of the guest finds them.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include "guest/guest.hpp"
#include "kernel/descriptor.hpp"
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

/// Writes the whole page under one lock of it, so that nothing maps it before: UFFDIO_CONTINUE waits for that lock. From a pipe,
/// for a write from memory that is paged out or being migrated shows the page as zeros until the memory is back. False, and the
/// run is stopped by name, when it cannot be written.
inline bool write_at_once(const Guest& guest, std::uint64_t page, const std::byte* from) {
  thread_local Descriptor ends[2];
  const auto failed = [&](const char* call, ssize_t done) {
    const int error = done < 0 ? errno : ENOMEM;
    ends[0].reset();  // what is left in it is of this page
    ends[1].reset();
    guest.stop(KernelError(call + std::string(" of the contents of page ") + std::to_string(page), error).what());
    return false;
  };
  if (!ends[0].valid()) {
    int made[2];
    if (::pipe2(made, O_CLOEXEC | O_NONBLOCK) != 0) return failed("pipe2", -1);
    ends[0] = Descriptor(made[0]);
    ends[1] = Descriptor(made[1]);
  }
  const std::uint64_t bytes = guest.config().page_bytes;
  const ssize_t held = ::write(ends[1].get(), from, bytes);
  if (held != static_cast<ssize_t>(bytes)) return failed("write", held);
  auto at = static_cast<off_t>(page * bytes);
  const ssize_t written = ::splice(ends[0].get(), nullptr, guest.region_fd(), &at, bytes, 0);
  return written == held || failed("splice", written);
}

/// The page's contents from a buffer of the caller's. False, and the run is stopped by name, when there is no memory for it.
inline bool write_page(const Guest& guest, std::byte* alias, std::uint64_t page, const std::byte* from) {
  if (written_while_mapped(guest)) return write_at_once(guest, page, from);
  if (!allocate_page(guest, alias, page)) return false;
  std::memcpy(alias + page * guest.config().page_bytes, from, guest.config().page_bytes);
  return true;
}

}  // namespace uffd
