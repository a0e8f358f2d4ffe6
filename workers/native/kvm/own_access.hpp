// Accesses to guest memory that KVM makes by itself, as a device does: they are no vCPU's, so nothing of them comes back as an
// exit with a page in it. Tried here, one by one, on a page that is not there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace uffd {

struct OwnAccess {
  std::string access;        ///< page_table, operand, steal_time, clock
  bool refuses = false;      ///< the mapping has UFFD_FEATURE_SIGBUS, as under no_uffd_wait; else it sleeps
  std::uint64_t events = 0;  ///< read from the userfaultfd and resolved: sleeps of KVM's
  std::string seen;          ///< what came of it: done, lost, mmio, efault, memory_fault, exception N, or KVM's exit reason
};

inline constexpr const char* kNotAvailable = "not available";

/// Every such access of this architecture under both kinds of mapping. Throws KernelError.
std::vector<OwnAccess> try_own_accesses();

}  // namespace uffd
