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

  /// kNobody for a thread that is no vCPU.
  [[gnu::hot]] std::uint32_t find(std::uint32_t tid) {
    if (tid == 0) return kNobody;
    const auto found = vcpus_.find(tid);
    if (found != vcpus_.end() && is(found->second, tid)) return found->second;
    return look_up(tid);
  }

 private:
  bool is(std::uint32_t vcpu, std::uint32_t tid) const noexcept {
    return guest_.vcpu(vcpu).tid.load(std::memory_order_acquire) == tid;
  }
  // Not seen before: vCPUs publish their thread when they start.
  std::uint32_t look_up(std::uint32_t tid) {
    std::uint32_t vcpu = kNobody;
    for (std::uint32_t i = 0; i < guest_.config().vcpus; ++i)
      if (is(i, tid)) vcpus_[tid] = vcpu = i;
    return vcpu;
  }

  const Guest& guest_;
  std::unordered_map<std::uint32_t, std::uint32_t> vcpus_;  ///< by thread
};

}  // namespace uffd
