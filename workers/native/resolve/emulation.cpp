#include "resolve/emulation.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "kernel/error.hpp"
#include "kernel/system_call.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

[[gnu::tls_model("initial-exec")]] thread_local int pagemap = -1;

}  // namespace

void open_pagemap() {
  pagemap = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (pagemap < 0) throw KernelError("open of /proc/self/pagemap", errno);
}

void close_pagemap() noexcept {
  if (pagemap >= 0) ::close(pagemap);
  pagemap = -1;
}

[[gnu::hot]] bool present(const void* address) noexcept {
  std::uint64_t entry = 0;
  const auto offset = static_cast<off_t>(reinterpret_cast<std::uint64_t>(address) / kBasePageBytes * sizeof entry);
  return system_call(SYS_pread64, pagemap, reinterpret_cast<long>(&entry), sizeof entry, offset) == sizeof entry &&
         entry >> 63 != 0;
}

[[gnu::hot]] int populate(std::byte* at, std::uint64_t bytes) noexcept {
  return ::madvise(at, bytes, MADV_POPULATE_WRITE) == 0 ? 0 : errno;
}

}  // namespace uffd
