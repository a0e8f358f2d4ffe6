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

void set_instruction(int fd, std::uint64_t at) {
#if defined(__x86_64__)
  kvm_regs registers{};
  CHECK_EQUAL(::ioctl(fd, KVM_GET_REGS, &registers), 0);
  registers.rip = at;
  CHECK_EQUAL(::ioctl(fd, KVM_SET_REGS, &registers), 0);
#else
  constexpr std::uint64_t kPc = offsetof(kvm_regs, regs.pc) / sizeof(__u32);
  kvm_one_reg one{KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | kPc, reinterpret_cast<std::uint64_t>(&at)};
  CHECK_EQUAL(::ioctl(fd, KVM_SET_ONE_REG, &one), 0);
#endif
}

/// Has the guest run to its first call. Its shared memory is the VM's first slot.
void start(const Vm& vm, VmVcpu& vcpu) {
  auto* const at = reinterpret_cast<std::byte*>(vm.slot(0).at);
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
}

}  // namespace

TEST("kvm: a VM that cannot be completed leaves no mapping of a vCPU and no descriptor") {
  needs_kvm();
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

TEST("kvm: a touch is not done while the vCPU stands at its instruction, and done at the return behind it") {
  needs_kvm();
  const Mapping memory = Mapping::anonymous(2 << 20, 2 << 20);
  Vm vm(layout(1, memory.data(), memory.bytes()));
  const auto stands_at = [&](const void* function, std::uint64_t offset) {
    const std::uint64_t at =
        vm.code_at() + static_cast<std::uint64_t>(static_cast<const std::byte*>(function) - first_guest_byte) + offset;
    set_instruction(vm.vcpu(0).fd.get(), at);
    return guest_before_touch(vm.vcpu(0).fd.get(), vm.code_at());
  };
  const auto* write = reinterpret_cast<const void*>(&uffd_guest_write);
  const auto* read = reinterpret_cast<const void*>(&uffd_guest_read);
#if defined(__x86_64__)
  CHECK(!stands_at(write, 0));  // xorl %eax, %eax: 2 bytes
  CHECK(stands_at(write, 2));   // lock xaddq: 5 bytes
  CHECK(!stands_at(write, 7));  // ret
  CHECK(stands_at(read, 0));    // movq: 3 bytes
  CHECK(!stands_at(read, 3));
#else
  CHECK(!stands_at(write, 0));   // mov
  CHECK(stands_at(write, 4));    // ldaxr
  CHECK(stands_at(write, 8));    // stlxr
  CHECK(!stands_at(write, 16));  // ret
  CHECK(stands_at(read, 0));     // ldr
  CHECK(!stands_at(read, 4));
#endif
}

TEST("kvm: a guest's trap reports its vector, instruction, address and error code, each in its own field") {
  needs_kvm();
  const Mapping memory = Mapping::anonymous(2 << 20, 2 << 20);
  memory.data()[0] = std::byte{0};
  for (const bool nowhere : {true, false}) {
    Vm vm(layout(1, memory.data(), memory.bytes()));
    VmVcpu& vcpu = vm.vcpu(0);
    start(vm, vcpu);
    constexpr std::uint64_t kNowhere = 0x70'0000'0000;           // in no table
    constexpr std::uint64_t kNoAddress = 0x8000'0000'0000'0000;  // of neither half of the addresses
    vcpu.accesses[0] = {.word = reinterpret_cast<std::uint64_t*>(nowhere ? kNowhere : kNoAddress)};
    vcpu.guest->ask(1, 0, 0);
    CHECK(next_call(vcpu) == GuestCall::trap);
#if defined(__x86_64__)
    CHECK_EQUAL(vcpu.traps->vector, nowhere ? 14u : 13u);  // a page fault, of user mode and a read; general protection
    CHECK_EQUAL(vcpu.traps->error, nowhere ? 4u : 0u);
#else
    CHECK_EQUAL(vcpu.traps->vector, 0x25u);                        // a data abort of this exception level
    CHECK_EQUAL(vcpu.traps->error & 0x3f, nowhere ? 0x5u : 0x4u);  // a translation fault of level 1, or of the address itself
#endif
    const auto read = reinterpret_cast<const std::byte*>(&uffd_guest_read) - first_guest_byte;
    CHECK_EQUAL(vcpu.traps->at, vm.code_at() + static_cast<std::uint64_t>(read));
    if (nowhere) CHECK_EQUAL(vcpu.traps->address, kNowhere);
  }
}

TEST("kvm: a guest reaches memory above 64 GiB") {
  needs_kvm();
  constexpr std::uint64_t kSlots = 70;  // each begins at a GiB of its own
  const Mapping memory = Mapping::anonymous(2 << 20, 2 << 20);
  memory.data()[0] = std::byte{0};
  VmLayout plan = layout(1, memory.data(), memory.bytes());
  for (std::uint64_t i = 1; i < kSlots; ++i) plan.slots.push_back({memory.data() + i * 4096, 4096, 0});
  Vm vm(plan);
  VmVcpu& vcpu = vm.vcpu(0);
  start(vm, vcpu);
  const GuestSlot& last = vm.slot(kSlots - 1);
  CHECK(last.at > 64ull << 30);
  *reinterpret_cast<std::uint64_t*>(last.host) = 4711;
  vcpu.accesses[0] = {.word = reinterpret_cast<std::uint64_t*>(last.at)};
  vcpu.guest->ask(1, 0, 0);
  CHECK(next_call(vcpu) == GuestCall::ready);
  CHECK_EQUAL(vcpu.accesses[0].value, 4711u);
}

TEST("kvm: parts of the region are memory slots of their own, and what lies between them is in none") {
  needs_kvm();
  constexpr std::uint64_t kMib = 1 << 20;
  const Mapping memory = Mapping::anonymous(4 * kMib, 2 * kMib);
  VmLayout plan = layout(1, memory.data(), memory.bytes());
  plan.parts = {{0, 2 * kMib}, {3 * kMib, kMib}};
  Vm vm(plan);
  VmVcpu& vcpu = vm.vcpu(0);
  start(vm, vcpu);
  const auto ask_for = [&](std::uint64_t offset) {
    vcpu.accesses[0] = {.word = reinterpret_cast<std::uint64_t*>(vm.slot(0).at + offset)};
    vcpu.guest->ask(1, 0, 0);
  };
  for (const std::uint64_t offset : {kMib / 2, 3 * kMib}) {
    *reinterpret_cast<std::uint64_t*>(memory.data() + offset) = 4711 + offset;
    ask_for(offset);
    CHECK(next_call(vcpu) == GuestCall::ready);
    CHECK_EQUAL(vcpu.accesses[0].value, 4711 + offset);
  }
  ask_for(2 * kMib);
  CHECK_EQUAL(run_vcpu(vcpu), 0);
  CHECK_EQUAL(vcpu.run->exit_reason, static_cast<unsigned>(KVM_EXIT_MMIO));
  CHECK_EQUAL(vcpu.run->mmio.phys_addr, vm.slot(0).at + 2 * kMib);
}
