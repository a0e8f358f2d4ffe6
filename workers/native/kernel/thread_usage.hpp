// What the kernel has counted of a thread. The thread asks for itself, once when its work begins and once when it has ended.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <ctime>

#include "kernel/vocabulary.hpp"

namespace uffd {

/// CPU time of the calling thread.
inline std::uint64_t thread_cpu_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);  // cannot fail: the arguments are right
  return static_cast<std::uint64_t>(now.tv_sec) * kNanosecondsPerSecond + static_cast<std::uint64_t>(now.tv_nsec);
}

struct ThreadUsage {
  std::uint64_t user_ns = 0, system_ns = 0;
  std::uint64_t voluntary_switches = 0, involuntary_switches = 0;
  std::uint64_t minor_faults = 0, major_faults = 0;

  static ThreadUsage of_this_thread() noexcept {
    thread_cpu_ns();  // brings the running thread's account up to now: getrusage does not
    rusage usage{};
    ::getrusage(RUSAGE_THREAD, &usage);  // cannot fail: the arguments are right
    const auto ns = [](const timeval& time) {
      return static_cast<std::uint64_t>(time.tv_sec) * kNanosecondsPerSecond + static_cast<std::uint64_t>(time.tv_usec) * 1000;
    };
    const auto count = [](long value) { return static_cast<std::uint64_t>(value); };
    return {ns(usage.ru_utime),     ns(usage.ru_stime),     count(usage.ru_nvcsw),
            count(usage.ru_nivcsw), count(usage.ru_minflt), count(usage.ru_majflt)};
  }

  std::uint64_t cpu_ns() const noexcept { return user_ns + system_ns; }

  ThreadUsage& operator+=(const ThreadUsage& more) noexcept {
    user_ns += more.user_ns;
    system_ns += more.system_ns;
    voluntary_switches += more.voluntary_switches;
    involuntary_switches += more.involuntary_switches;
    minor_faults += more.minor_faults;
    major_faults += more.major_faults;
    return *this;
  }

  ThreadUsage since(const ThreadUsage& begin) const noexcept {
    return {user_ns - begin.user_ns,
            system_ns - begin.system_ns,
            voluntary_switches - begin.voluntary_switches,
            involuntary_switches - begin.involuntary_switches,
            minor_faults - begin.minor_faults,
            major_faults - begin.major_faults};
  }
};

}  // namespace uffd
