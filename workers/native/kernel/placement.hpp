// Which CPUs a thread may run on, and which it did run on.
#pragma once

#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernel/error.hpp"

namespace uffd {

using CpuList = std::vector<int>;

/// The mask of CPUs as the kernel takes it: as long as the last of them asks for, which a cpu_set_t is not beyond 1024.
inline std::vector<unsigned long> cpu_mask(const CpuList& cpus) {
  constexpr unsigned kBits = 8 * sizeof(unsigned long);
  std::vector<unsigned long> mask;
  for (const int cpu : cpus) {
    const auto number = static_cast<unsigned>(cpu);
    if (mask.size() <= number / kBits) mask.resize(number / kBits + 1);
    mask[number / kBits] |= 1ul << (number % kBits);
  }
  return mask;
}

/// Pins the calling thread; an empty list leaves it alone. Throws KernelError.
inline void pin_this_thread(const CpuList& cpus) {
  if (cpus.empty()) return;
  const std::vector<unsigned long> mask = cpu_mask(cpus);
  if (::syscall(SYS_sched_setaffinity, 0, mask.size() * sizeof mask[0], mask.data()) != 0)
    throw KernelError("sched_setaffinity", errno);
}

/// Names the calling thread for top, perf and /proc, in at most 15 characters.
inline void name_this_thread(const std::string& name) noexcept { ::prctl(PR_SET_NAME, name.c_str()); }

class CpusSeen {
 public:
  void add(std::uint16_t cpu) noexcept { seen_[cpu / 64 % seen_.size()] |= 1ull << (cpu % 64); }
  void add_current() noexcept { add(static_cast<std::uint16_t>(::sched_getcpu())); }
  CpuList list() const {
    CpuList cpus;
    for (std::size_t i = 0; i < seen_.size() * 64; ++i)
      if (seen_[i / 64] >> (i % 64) & 1) cpus.push_back(static_cast<int>(i));
    return cpus;
  }

 private:
  std::array<std::uint64_t, 128> seen_{};  // Linux has at most 8192 CPUs
};

}  // namespace uffd
