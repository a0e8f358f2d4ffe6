// The kernel's vocabulary, by the version that brought each word. Debian 12's headers are 6.1: what is newer is defined
// here beside the system's, and a test holds every value against the real header where it has it.
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <array>
#include <cstdint>
#include <string_view>

// Linux 5.14
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
// Linux 6.6
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
#define _UFFDIO_POISON (0x08)
struct uffdio_poison {
  struct uffdio_range range;
  __u64 mode;
  __s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)
#endif

namespace uffd {

struct FeatureName {
  std::uint64_t bit;
  std::string_view name;
};

inline constexpr std::array kFeatureNames{
    FeatureName{UFFD_FEATURE_EVENT_FORK, "EVENT_FORK"},                // 4.11
    FeatureName{UFFD_FEATURE_EVENT_REMAP, "EVENT_REMAP"},              // 4.11
    FeatureName{UFFD_FEATURE_EVENT_REMOVE, "EVENT_REMOVE"},            // 4.11
    FeatureName{UFFD_FEATURE_MISSING_HUGETLBFS, "MISSING_HUGETLBFS"},  // 4.11
    FeatureName{UFFD_FEATURE_MISSING_SHMEM, "MISSING_SHMEM"},          // 4.11
    FeatureName{UFFD_FEATURE_EVENT_UNMAP, "EVENT_UNMAP"},              // 4.11
    FeatureName{UFFD_FEATURE_SIGBUS, "SIGBUS"},                        // 4.14
    FeatureName{UFFD_FEATURE_THREAD_ID, "THREAD_ID"},                  // 4.14
    FeatureName{UFFD_FEATURE_MINOR_HUGETLBFS, "MINOR_HUGETLBFS"},      // 5.13
    FeatureName{UFFD_FEATURE_MINOR_SHMEM, "MINOR_SHMEM"},              // 5.14
    FeatureName{UFFD_FEATURE_POISON, "POISON"},                        // 6.6
};

inline constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;
inline constexpr std::uint64_t kBasePageBytes = 4096;
inline constexpr std::uint64_t kHugePageBytes = 2 << 20;

}  // namespace uffd
