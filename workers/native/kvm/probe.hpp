// What this host's KVM can do for the engine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace uffd {

struct KvmCapability {
  bool usable = false;
  std::string error;               ///< why not
  std::uint32_t most_vcpus = 0;    ///< of one VM
  std::uint32_t best_vcpus = 0;    ///< as KVM recommends
  std::vector<std::string> names;  ///< capabilities of interest that are there
  std::string exit_on_missing;     ///< why a page that fast GUP does not find makes no exit; empty: it does
};
KvmCapability probe_kvm();

/// Why this KVM cannot exit when fast GUP fails, as no_slow_gup needs; empty when it can.
std::string exit_on_missing_lack();

}  // namespace uffd
