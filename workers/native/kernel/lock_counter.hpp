// How often a thread has taken an mmap_lock for reading, by what it was doing: the kernel's mmap_lock tracepoint, counted by a
// perf event of the thread's own. Nothing is left behind in tracefs; each count slows the lock down, so it is for runs that ask.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernel/descriptor.hpp"

namespace uffd {

enum class LockCause : std::size_t {
  probe,     ///< reading pagemap
  populate,  ///< MADV_POPULATE_WRITE
  resolve,   ///< UFFDIO_COPY, UFFDIO_CONTINUE: where the per-VMA lock would not do
  fault,     ///< all the rest: the kernel's own page fault
  count
};
inline constexpr std::array<const char*, static_cast<std::size_t>(LockCause::count)> kLockCauseNames{"probe", "populate",
                                                                                                     "resolve", "fault"};
using LockReads = std::array<std::uint64_t, static_cast<std::size_t>(LockCause::count)>;

class LockCounter {
 public:
  /// Counts for the calling thread from now on; invalid without tracefs, or without the right to use perf events.
  static LockCounter of_this_thread() noexcept;
  bool valid() const noexcept { return event_.valid(); }

  /// Runs `work`, whose read locks are of `cause`.
  template <typename Work>
  auto during(LockCause cause, Work work) noexcept {
    if (!valid()) return work();
    const std::uint64_t before = total();
    const auto result = work();
    reads_[static_cast<std::size_t>(cause)] += total() - before;
    return result;
  }
  /// Between begin() and end(), all such times together.
  LockReads reads() const noexcept;
  void begin() noexcept { began_ = valid() ? total() : 0; }
  void end() noexcept { counted_ += valid() ? total() - began_ : 0; }

 private:
  std::uint64_t total() const noexcept;
  Descriptor event_;
  LockReads reads_{};
  std::uint64_t began_ = 0, counted_ = 0;
};

}  // namespace uffd
