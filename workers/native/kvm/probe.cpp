#include "kvm/probe.hpp"

#include <sys/ioctl.h>

#include <array>

#include "kernel/error.hpp"
#include "kernel/mapping.hpp"
#include "kvm/vm.hpp"

namespace uffd {

namespace {

struct Named {
  int number;
  const char* name;
};
constexpr std::array kOfInterest{
    Named{KVM_CAP_SYNC_MMU, "SYNC_MMU"},
    Named{KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT"},
#if defined(__x86_64__)
    Named{KVM_CAP_MCE, "MCE"},
#elif defined(__aarch64__)
    Named{KVM_CAP_ARM_INJECT_EXT_DABT, "ARM_INJECT_EXT_DABT"},
    Named{kCapCounterOffset, "COUNTER_OFFSET"},
#endif
    Named{KVM_CAP_MEMORY_FAULT_INFO, "MEMORY_FAULT_INFO"},
    Named{KVM_CAP_USER_MEMORY2, "USER_MEMORY2"},
};

}  // namespace

std::string exit_on_missing_lack() {
  const Descriptor kvm = open_kvm();
  const Descriptor vm(::ioctl(kvm.get(), KVM_CREATE_VM, 0));
  if (!vm.valid()) throw KernelError("KVM_CREATE_VM", errno);
  const Mapping page = Mapping::anonymous(4096, 4096);
  kvm_userspace_memory_region2 region{};
  region.flags = kExitOnMissingFlag;
  region.memory_size = page.bytes();
  region.userspace_addr = page.address();
  if (::ioctl(vm.get(), KVM_SET_USER_MEMORY_REGION2, &region) == 0) return {};
  return "this kernel's KVM does not exit when fast GUP fails (KVM_MEM_EXIT_ON_MISSING and KVM_MEM_USERFAULT were never merged), "
         "and that is never imitated: use strategy=no_uffd_wait or uffd_wait, or engine=thread";
}

KvmCapability probe_kvm() {
  KvmCapability found;
  try {
    const Descriptor kvm = open_kvm();
    const auto ask = [&kvm](int number) { return ::ioctl(kvm.get(), KVM_CHECK_EXTENSION, number); };
    found.most_vcpus = static_cast<std::uint32_t>(ask(KVM_CAP_MAX_VCPUS));
    found.best_vcpus = static_cast<std::uint32_t>(ask(KVM_CAP_NR_VCPUS));
    for (const Named& one : kOfInterest)
      if (ask(one.number) > 0) found.names.push_back(one.name);
    found.exit_on_missing = exit_on_missing_lack();
    found.usable = true;
  } catch (const KernelError& error) {
    found.error = error.what();
  }
  return found;
}

}  // namespace uffd
