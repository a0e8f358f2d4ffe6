// One KVM virtual machine: its memory slots and its vCPUs, as bare as the kernel offers them.
#pragma once

#include <cstdint>
#include <vector>

#include "kernel/descriptor.hpp"
#include "kernel/mapping.hpp"
#include "kvm/guest_program.hpp"
#include "kvm/kvm_words.hpp"
#include "kvm/userfault_bits.hpp"

namespace uffd {

/// /dev/kvm, opened. Throws KernelError with the fix.
Descriptor open_kvm();

/// A piece of host memory as the guest sees it.
struct GuestSlot {
  std::byte* host = nullptr;
  std::uint64_t bytes = 0;
  std::uint64_t at = 0;  ///< its address in the guest

  bool holds(std::uint64_t address) const noexcept { return address - at < bytes; }
  /// The guest's pointer to what `pointer`, into `host`, points at.
  template <typename T>
  T* in_guest(T* pointer) const noexcept {
    const auto offset = reinterpret_cast<std::uint64_t>(pointer) - reinterpret_cast<std::uint64_t>(host);
    return reinterpret_cast<T*>(at + offset);
  }
};

/// A stretch of the region that is mapped.
struct RegionPart {
  std::uint64_t offset = 0, bytes = 0;
};

struct VmLayout {
  std::vector<GuestSlot> slots;   ///< host and bytes given; the addresses are dealt here. The first is the region
  std::vector<RegionPart> parts;  ///< of the region, each a memory slot: what lies between is in none. Empty: it is one
  std::uint32_t vcpus = 1;
  std::uint64_t accesses_per_vcpu = 0;  ///< that one is asked for at a time
  bool kernel_mode = false;
  bool exit_on_missing = false;  ///< of the region's pages, where the kernel can
};

/// A vCPU's corner of the guest's own slot.
struct VmVcpu {
  Descriptor fd;
  Mapping run_mapping;  ///< of `run`
  kvm_run* run = nullptr;
  GuestVcpu* guest = nullptr;  ///< room for it; the user constructs it
  GuestTraps* traps = nullptr;
  GuestAccess* accesses = nullptr;
};

class Vm {
 public:
  /// Throws KernelError, ConfigError.
  explicit Vm(const VmLayout& layout);
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;

  /// Slot `index` of the layout.
  const GuestSlot& slot(std::size_t index) const noexcept { return slots_[index]; }
  const GuestSlot& own() const noexcept { return own_; }
  VmVcpu& vcpu(std::uint32_t index) noexcept { return vcpus_[index]; }
  std::uint64_t code_at() const noexcept { return code_at_; }
  /// Of the region; without bits unless it exits on missing pages.
  UserfaultBits& userfault_bits() noexcept { return userfault_bits_; }

 private:
  void add_slots(const VmLayout& layout);
  void add_slot(std::uint32_t number, const GuestSlot& slot, bool exits_on_missing);

  Descriptor kvm_, vm_;
  Mapping own_memory_;
  GuestSlot own_;
  std::vector<GuestSlot> slots_;
  UserfaultBits userfault_bits_;
  std::vector<VmVcpu> vcpus_;
  std::uint64_t code_at_ = 0;
};

/// KVM_RUN: 0, or the errno.
int run_vcpu(const VmVcpu& vcpu) noexcept;

}  // namespace uffd
