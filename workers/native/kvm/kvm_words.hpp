// KVM's vocabulary that Debian 12's headers (6.1) lack, by the version that brought each word; and what was never merged.
#pragma once

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

// Linux 6.8: KVM_RUN that fails with EFAULT may have the address.
#ifndef KVM_CAP_MEMORY_FAULT_INFO
#define KVM_CAP_MEMORY_FAULT_INFO 232
#define KVM_EXIT_MEMORY_FAULT 39
#endif
#ifndef KVM_SET_USER_MEMORY_REGION2
#define KVM_CAP_USER_MEMORY2 231
struct kvm_userspace_memory_region2 {
  __u32 slot;
  __u32 flags;
  __u64 guest_phys_addr;
  __u64 memory_size;
  __u64 userspace_addr;
  __u64 guest_memfd_offset;
  __u32 guest_memfd;
  __u32 pad1;
  __u64 pad2[14];
};
#define KVM_SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#endif

namespace uffd {

/// A list as KVM takes it: a count, and entries. The headers' structs for it are 4 bytes longer in C++ than in C (an empty struct
/// before the flexible array has a size here), and so are ioctl numbers made of them, which KVM then rejects.
template <typename Entry, std::uint32_t kEntries>
struct KvmList {
  std::uint32_t count = kEntries;
  std::uint32_t pad = 0;
  Entry entries[kEntries] = {};
};
inline constexpr unsigned long kGetSupportedCpuid = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, 8);
inline constexpr unsigned long kSetCpuid2 = _IOC(_IOC_WRITE, KVMIO, 0x90, 8), kSetMsrs = _IOC(_IOC_WRITE, KVMIO, 0x89, 8);

#if defined(__aarch64__)
/// Linux 6.4: what a guest's counters are behind the host's.
inline constexpr int kCapCounterOffset = 227;
struct KvmCounterOffset {
  std::uint64_t offset, reserved;
};
inline constexpr unsigned long kArmSetCounterOffset = _IOW(KVMIO, 0xb5, KvmCounterOffset);
#endif

/// What KVM_EXIT_MEMORY_FAULT carries, in the union of kvm_run where KVM_EXIT_MMIO has its own.
struct MemoryFault {
  std::uint64_t flags, gpa, size;
};
static_assert(offsetof(kvm_run, mmio) == offsetof(kvm_run, internal));

/// Never merged: a slot whose pages are not faulted in for a vCPU. KVM_MEM_EXIT_ON_MISSING (Anish Moorthy, 2023) and later
/// KVM_MEM_USERFAULT (James Houghton, 2025), the one without and the other with a bitmap in pad2[0], both use this bit. Their
/// capabilities' numbers have been given to others since, so a guest that tries it is the only probe.
inline constexpr std::uint32_t kExitOnMissingFlag = 1u << 3;

}  // namespace uffd
