// One userfaultfd that was handed to the page server, with what its VMM process sent of it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "guest/fault_record.hpp"
#include "guest/guest.hpp"
#include "resolve/resolver.hpp"

namespace uffd {

struct RegionView {
  std::uint64_t base_host_virt_addr = 0, size = 0, offset = 0, page_size = 0;
};

class Peer {
 public:
  /// `fd` is duplicated. `record_fd` and `faults_fd` are -1 for a VMM that is not ours. Throws ConfigError, KernelError.
  Peer(const Guest& guest, int fd, std::vector<RegionView> regions, int vmm, int record_fd, int faults_fd,
       std::uint32_t fault_around_pages);

  const Userfaultfd& uffd() const noexcept { return uffd_; }
  const Resolver& resolver() const noexcept { return *resolver_; }
  const std::vector<RegionView>& regions() const noexcept { return regions_; }  ///< by address
  int vmm() const noexcept { return vmm_; }
  std::uint64_t slots_per_vcpu() const noexcept { return slots_per_vcpu_; }
  /// Null when the VMM process sent none.
  FaultRecord* faults() const noexcept { return reinterpret_cast<FaultRecord*>(faults_.data()); }

  /// The page at an address of the VMM process; nothing outside its regions.
  std::optional<std::uint64_t> page_at(std::uint64_t address) const noexcept;
  /// The record of the fault that a vCPU sleeps in; null when it is not known.
  FaultRecord* record_of(std::uint32_t vcpu, std::uint64_t page) const noexcept;
  /// Every sleeper faults again, which repeats events that were read and forgotten.
  void wake_all() const noexcept;

 private:
  const Guest& guest_;
  Userfaultfd uffd_;
  std::vector<RegionView> regions_;
  int vmm_;
  Mapping record_;  ///< the VMM process's when it sent one, our own otherwise
  Mapping faults_;
  std::uint64_t slots_per_vcpu_ = 0;
  std::optional<Resolver> resolver_;
};

}  // namespace uffd
