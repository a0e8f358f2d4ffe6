// Loaded into the kernel's demand_paging_test: says at its end how many pages it has resolved. Its own rate counts every page
// that its guests touch, whether or not a userfaultfd had to do with it.
#include <linux/ioctl.h>
#include <linux/userfaultfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

namespace {

std::atomic<unsigned long> pages{0};

struct AtEnd {
  ~AtEnd() {
    if (pages != 0) std::fprintf(stderr, "UFFDIO_CONTINUE: %lu pages\n", pages.load());
  }
} at_end;

}  // namespace

extern "C" int ioctl(int fd, unsigned long request, void* argument) {
  const long result = ::syscall(SYS_ioctl, fd, request, argument);
  if (request == UFFDIO_CONTINUE && result == 0) pages += static_cast<const uffdio_continue*>(argument)->range.len / 4096;
  return static_cast<int>(result);
}
