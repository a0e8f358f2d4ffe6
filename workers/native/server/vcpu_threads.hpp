// Which vCPU a thread is: an event names the thread.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "guest/guest.hpp"

namespace uffd {

class VcpuThreads {
 public:
  static constexpr std::uint32_t kNobody = ~0u;

  explicit VcpuThreads(const Guest& guest) : guest_(guest) {}

  /// kNobody for a thread that is no vCPU: a device's, or a foreign VMM's.
  [[gnu::hot]] std::uint32_t find(std::uint32_t tid) {
    if (!complete_) read_all();
    const auto found = vcpus_.find(tid);
    return found == vcpus_.end() ? kNobody : found->second;
  }

 private:
  // vCPUs publish their threads on their way to the barrier: once all have arrived there, none is missing.
  void read_all() {
    const std::uint32_t vcpus = guest_.config().vcpus;
    complete_ = guest_.header().arrived.load(std::memory_order_acquire) >= vcpus;
    for (std::uint32_t i = 0; i < vcpus; ++i)
      if (const std::uint32_t tid = guest_.vcpu(i).tid.load(std::memory_order_acquire); tid != 0) vcpus_[tid] = i;
  }

  const Guest& guest_;
  bool complete_ = false;
  std::unordered_map<std::uint32_t, std::uint32_t> vcpus_;  ///< by thread
};

}  // namespace uffd
