#include "kernel/lock_counter.hpp"

#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <numeric>

namespace uffd {

namespace {

std::uint64_t tracepoint() {
  for (const char* folder : {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"}) {
    std::uint64_t id = 0;
    if (std::ifstream(std::string(folder) + "/events/mmap_lock/mmap_lock_acquire_returned/id") >> id) return id;
  }
  return 0;
}

}  // namespace

LockCounter LockCounter::of_this_thread() noexcept {
  LockCounter counter;
  perf_event_attr wanted{};
  wanted.type = PERF_TYPE_TRACEPOINT;
  wanted.size = sizeof wanted;
  wanted.config = tracepoint();
  if (wanted.config == 0) return counter;
  Descriptor event(static_cast<int>(::syscall(SYS_perf_event_open, &wanted, 0, -1, -1, PERF_FLAG_FD_CLOEXEC)));
  if (event.valid() && ::ioctl(event.get(), PERF_EVENT_IOC_SET_FILTER, "write==0") == 0) counter.event_ = std::move(event);
  return counter;
}

std::uint64_t LockCounter::total() const noexcept {
  std::uint64_t count = 0;
  return ::read(event_.get(), &count, sizeof count) == sizeof count ? count : 0;
}

LockReads LockCounter::reads() const noexcept {
  LockReads reads = reads_;
  std::uint64_t& fault = reads[static_cast<std::size_t>(LockCause::fault)];
  fault = counted_ - std::accumulate(reads_.begin(), reads_.end(), std::uint64_t{0});
  return reads;
}

}  // namespace uffd
