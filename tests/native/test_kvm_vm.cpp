// A KVM virtual machine without a run around it: what its guest's traps leave, where a touch stands, and what a VM that cannot be
// completed leaves behind.
#include <dirent.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include <fstream>
#include <new>
#include <string>

#include "check.hpp"
#include "kernel/error.hpp"
#include "kvm/vm.hpp"
#include "kvm_guest.hpp"

using namespace uffd;

namespace {

VmLayout layout(std::uint32_t vcpus, std::byte* memory, std::uint64_t bytes) {
  VmLayout plan;
  plan.slots = {GuestSlot{memory, bytes, 0}};
  plan.vcpus = vcpus;
  plan.accesses_per_vcpu = 1;
  return plan;
}

int vcpu_mappings() {
  std::ifstream maps("/proc/self/maps");
  int found = 0;
  for (std::string line; std::getline(maps, line);) found += line.find("kvm-vcpu") != std::string::npos;
  return found;
}

rlim_t open_files() {
  DIR* folder = ::opendir("/proc/self/fd");
  rlim_t count = 0;
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count - 3;  // ".", "..", the folder itself
}

/// Runs the guest to its next ring of the doorbell.
GuestCall next_call(VmVcpu& vcpu) {
  CHECK_EQUAL(run_vcpu(vcpu), 0);
  CHECK_EQUAL(vcpu.run->exit_reason, static_cast<unsigned>(KVM_EXIT_MMIO));
  CHECK_EQUAL(vcpu.run->mmio.phys_addr, kGuestDoorbell);
  return static_cast<GuestCall>(vcpu.run->mmio.data[0]);
}

}  // namespace

TEST("kvm: a VM that cannot be completed leaves no mapping of a vCPU and no descriptor") {
  if (no_kvm()) return;
  const Mapping memory = Mapping::anonymous(2 << 20, 2 << 20);
  const int mappings = vcpu_mappings();
  const rlim_t before = open_files();
  rlimit limit{};
  CHECK_EQUAL(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit low{before + 6, limit.rlim_max};  // /dev/kvm, the VM, and a few of its vCPUs
  CHECK_EQUAL(::setrlimit(RLIMIT_NOFILE, &low), 0);
  std::string said;
  try {
    Vm vm(layout(16, memory.data(), memory.bytes()));
  } catch (const KernelError& error) {
    said = error.what();
  }
  CHECK_EQUAL(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  CHECK(said.find("KVM_CREATE_VCPU") != std::string::npos);
  CHECK_EQUAL(vcpu_mappings(), mappings);
  CHECK_EQUAL(open_files(), before);
}

#if defined(__x86_64__)
TEST("kvm: a touch is not done while the vCPU stands at its instruction, and done at the return behind it") {
  if (no_kvm()) return;
  const Mapping memory = Mapping::anonymous(2 << 20, 2 << 20);
  Vm vm(layout(1, memory.data(), memory.bytes()));
  const auto stands_at = [&](const void* function, std::uint64_t offset) {
    kvm_regs registers{};
    CHECK_EQUAL(::ioctl(vm.vcpu(0).fd.get(), KVM_GET_REGS, &registers), 0);
    registers.rip =
        vm.code_at() + static_cast<std::uint64_t>(static_cast<const std::byte*>(function) - first_guest_byte) + offset;
    CHECK_EQUAL(::ioctl(vm.vcpu(0).fd.get(), KVM_SET_REGS, &registers), 0);
    return guest_before_touch(vm.vcpu(0).fd.get(), vm.code_at());
  };
  const auto* write = reinterpret_cast<const void*>(&uffd_guest_write);
  const auto* read = reinterpret_cast<const void*>(&uffd_guest_read);
  CHECK(!stands_at(write, 0));  // xorl %eax, %eax: 2 bytes
  CHECK(stands_at(write, 2));   // lock xaddq: 5 bytes
  CHECK(!stands_at(write, 7));  // ret
  CHECK(stands_at(read, 0));    // movq: 3 bytes
  CHECK(!stands_at(read, 3));
}

TEST("kvm: a guest's trap reports its vector, instruction, address and error code, each in its own field") {
  if (no_kvm()) return;
  const Mapping memory = Mapping::anonymous(2 << 20, 2 << 20);
  memory.data()[0] = std::byte{0};
  for (const bool page_fault : {true, false}) {
    Vm vm(layout(1, memory.data(), memory.bytes()));
    VmVcpu& vcpu = vm.vcpu(0);
    auto* const at = reinterpret_cast<std::byte*>(vm.slot(0).at);
    constexpr std::uint64_t kNowhere = 0x70'0000'0000;           // in no table: a page fault, whose error code is 4 (user, read)
    constexpr std::uint64_t kNoAddress = 0x8000'0000'0000'0000;  // not canonical: a general protection fault, error code 0
    new (vcpu.guest) GuestVcpu({.header = reinterpret_cast<SharedHeader*>(at),
                                .state = reinterpret_cast<VcpuState*>(at + (1 << 20)),
                                .records = reinterpret_cast<FaultRecord*>(at),
                                .accesses = vm.own().in_guest(vcpu.accesses),
                                .pages = PageRecord(reinterpret_cast<std::atomic<std::uint8_t>*>(at)),
                                .contents = Contents(1, 4096),
                                .page_bytes = 4096,
                                .record_capacity = 1,
                                .sample_every = 1});
    CHECK(next_call(vcpu) == GuestCall::ready);
    vcpu.accesses[0] = {.word = reinterpret_cast<std::uint64_t*>(page_fault ? kNowhere : kNoAddress)};
    vcpu.guest->ask(1, 0, 0);
    CHECK(next_call(vcpu) == GuestCall::trap);
    CHECK_EQUAL(vcpu.traps->vector, page_fault ? 14u : 13u);
    const auto read = reinterpret_cast<const std::byte*>(&uffd_guest_read) - first_guest_byte;
    CHECK_EQUAL(vcpu.traps->at, vm.code_at() + static_cast<std::uint64_t>(read));
    CHECK_EQUAL(vcpu.traps->error, page_fault ? 4u : 0u);
    if (page_fault) CHECK_EQUAL(vcpu.traps->address, kNowhere);
  }
}
#endif
