// x86-64: long mode, flat, 2 MiB identity mapping. The guest runs in user mode or in kernel mode (which on a KVM that has no
// hardware to run it is emulated, instruction by instruction); its traps are taken in kernel mode either way.
#if defined(__x86_64__)

#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "kernel/error.hpp"
#include "kvm/guest_cpu.hpp"
#include "kvm/kvm_words.hpp"

// The doorbell's address and GuestCall::trap are guest_cpu.hpp's and guest_program.hpp's. GS is the vCPU's GuestTraps.
asm(R"(
  .pushsection uffd_guest, "ax", @progbits
  .globl uffd_guest_enter, uffd_guest_read, uffd_guest_write
  .hidden uffd_guest_enter, uffd_guest_read, uffd_guest_write

  .p2align 4
uffd_guest_enter:
  call uffd_guest_main
  ud2

uffd_guest_write:
  xorl %eax, %eax
uffd_guest_touch_begin:
  lock xaddq %rax, (%rdi)
  ret
uffd_guest_read:
  movq (%rdi), %rax
uffd_guest_touch_end:
  ret

  .p2align 4
uffd_guest_machine_check:
  pushq %rax
  pushq %rcx
  pushq %rdx
  movl $0x17a, %ecx               # IA32_MCG_STATUS: one more may come
  xorl %eax, %eax
  xorl %edx, %edx
  wrmsr
  movq 24(%rsp), %rax
  leaq uffd_guest_touch_begin(%rip), %rcx
  cmpq %rcx, %rax
  jb 1f
  leaq uffd_guest_touch_end(%rip), %rcx
  cmpq %rcx, %rax
  jae 1f
  movq %rcx, 24(%rsp)             # the access is given up
1:
  popq %rdx
  popq %rcx
  popq %rax
  iretq

  .p2align 4
uffd_guest_traps:                 # 16 bytes each
  .set vector, 0
  .rept 32
  // These push an error code themselves: double fault, invalid TSS to page fault, alignment, control protection, VMM, security.
  .if (vector != 8) && (vector < 10 || vector > 14) && (vector != 17) && (vector != 21) && (vector != 29) && (vector != 30)
  pushq $0
  .endif
  pushq $vector
  jmp uffd_guest_trap
  .p2align 4
  .set vector, vector + 1
  .endr
uffd_guest_trap:
  popq %gs:0
  popq %gs:24                     # the error code
  popq %gs:8                      # the instruction
  movq %cr2, %rax
  movq %rax, %gs:16
  movl $0xd0000000, %ecx
  movl $3, %eax
  movq %rax, (%rcx)
  hlt
  .popsection
)");

extern "C" {
[[gnu::visibility("hidden")]] void uffd_guest_traps();
[[gnu::visibility("hidden")]] void uffd_guest_machine_check();
[[gnu::visibility("hidden")]] void uffd_guest_touch_begin();
[[gnu::visibility("hidden")]] void uffd_guest_touch_end();
}

namespace uffd {

namespace {

constexpr std::uint64_t kPage = 4096, kLargePage = 2 << 20, kGib = 1 << 30;
constexpr std::uint64_t kGdtAt = kGuestTablesAt, kIdtAt = kGdtAt + 0x400;
constexpr std::uint64_t kTop = kGdtAt + kPage;  // the top level table
constexpr std::uint64_t kTssOffset = 0x100;     // in a vCPU's page of traps, whose end is the stack it takes them on
constexpr std::uint16_t kKernelCode = 0x08, kKernelData = 0x10, kUserCode = 0x1b, kUserData = 0x23, kTaskState = 0x28;
constexpr unsigned kMachineCheck = 18;

std::uint64_t offset_of(void (*label)()) {
  return static_cast<std::uint64_t>(reinterpret_cast<const std::byte*>(label) - first_guest_byte);
}

kvm_segment segment(std::uint16_t selector, std::uint8_t type, bool code) {
  kvm_segment one{};
  one.selector = selector;
  one.limit = 0xffffffff;
  one.type = type;
  one.present = one.s = one.g = 1;
  one.dpl = selector & 3;
  one.l = code;
  one.db = !code;
  return one;
}

void must(int fd, unsigned long request, void* argument, const char* name) {
  if (::ioctl(fd, request, argument) < 0) throw KernelError(name, errno);
}

}  // namespace

std::uint64_t guest_tables_bytes(std::uint64_t end) {
  const std::uint64_t gib = (end + kGib - 1) / kGib;
  return kTop - kGuestTablesAt + (1 + (gib + 511) / 512 + gib) * kPage;
}

void write_guest_tables(std::byte* memory, std::uint64_t end, std::uint64_t code_at, bool) noexcept {
  const auto words = [memory](std::uint64_t at) { return reinterpret_cast<std::uint64_t*>(memory + at); };
  std::uint64_t* gdt = words(kGdtAt);
  gdt[1] = 0x00af9b000000ffff;  // kernel code, kernel data, user code, user data, task state (16 bytes)
  gdt[2] = 0x00cf93000000ffff;
  gdt[3] = 0x00affb000000ffff;
  gdt[4] = 0x00cff3000000ffff;
  gdt[5] = 0x0000890000000067;  // its base is each vCPU's own, in the register
  std::uint64_t* idt = words(kIdtAt);
  for (unsigned vector = 0; vector < 32; ++vector) {
    const std::uint64_t at =
        code_at + (vector == kMachineCheck ? offset_of(uffd_guest_machine_check) : offset_of(uffd_guest_traps) + 16 * vector);
    idt[2 * vector] = (at & 0xffff) | std::uint64_t{kKernelCode} << 16 | 0x8eull << 40 | (at >> 16 & 0xffff) << 48;
    idt[2 * vector + 1] = at >> 32;
  }

  constexpr std::uint64_t kTable = 7, kLeaf = 0x87;  // present, writable, user; large
  const std::uint64_t gib = (end + kGib - 1) / kGib;
  const std::uint64_t second = kTop + kPage, third = second + (gib + 511) / 512 * kPage;
  for (std::uint64_t i = 0; i < (gib + 511) / 512; ++i) words(kTop)[i] = (second + i * kPage) | kTable;
  for (std::uint64_t i = 0; i < gib; ++i) words(second)[i] = (third + i * kPage) | kTable;
  for (std::uint64_t i = 0; i < gib * 512; ++i) words(third)[i] = i * kLargePage | kLeaf;
}

void start_guest(int kvm, int, int fd, const GuestStart& start) {
  // The CPU's properties, as far as KVM has them.
  KvmList<kvm_cpuid_entry2, 256> cpuid;
  if (::ioctl(kvm, kGetSupportedCpuid, &cpuid) != 0) throw KernelError("KVM_GET_SUPPORTED_CPUID", errno);
  must(fd, kSetCpuid2, &cpuid, "KVM_SET_CPUID2");
  std::uint64_t banks = 1ull << 24 | 10;  // software recovery, ten banks; where it is refused nothing can be injected
  ::ioctl(fd, KVM_X86_SETUP_MCE, &banks);

  kvm_sregs system{};
  must(fd, KVM_GET_SREGS, &system, "KVM_GET_SREGS");
  const std::uint16_t data = start.kernel_mode ? kKernelData : kUserData;
  system.cs = segment(start.kernel_mode ? kKernelCode : kUserCode, 0xb, true);
  system.ds = system.es = system.fs = system.gs = system.ss = segment(data, 3, false);
  system.gs.base = start.traps_at;
  system.tr = {};
  system.tr.selector = kTaskState;
  system.tr.base = start.traps_at + kTssOffset;
  system.tr.limit = 0x67;
  system.tr.type = 11;
  system.tr.present = 1;
  system.gdt = {kGdtAt, 7 * 8 - 1, {}};
  system.idt = {kIdtAt, 32 * 16 - 1, {}};
  system.cr3 = kTop;
  system.cr4 = 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10;  // PAE, machine checks, SSE and its exceptions
  system.cr0 = 0x80050033;
  system.efer = 0x500;  // long mode
  must(fd, KVM_SET_SREGS, &system, "KVM_SET_SREGS");

  const std::uint64_t stack = start.traps_at + kPage;  // of kernel mode
  std::memcpy(start.traps + kTssOffset + 4, &stack, sizeof stack);

  kvm_regs registers{};
  registers.rip = start.code_at + offset_of(uffd_guest_enter);
  registers.rdi = start.vcpu_at;
  registers.rsp = start.stack_at;
  registers.rflags = 2;
  must(fd, KVM_SET_REGS, &registers, "KVM_SET_REGS");

  // The guest's counter is to be the host's; whether it is, is read from it.
  std::uint64_t offset = 0;
  kvm_device_attr attribute{0, 0 /* KVM_VCPU_TSC_CTRL */, 0 /* KVM_VCPU_TSC_OFFSET */, reinterpret_cast<std::uint64_t>(&offset)};
  ::ioctl(fd, KVM_SET_DEVICE_ATTR, &attribute);
}

// The access of a write is done when the vCPU stands at the return behind it.
bool guest_before_touch(int fd, std::uint64_t code_at) noexcept {
  kvm_regs registers{};
  if (::ioctl(fd, KVM_GET_REGS, &registers) != 0) return false;
  const std::uint64_t at = registers.rip - code_at;
  return at == offset_of(uffd_guest_touch_begin) || at == offset_of(reinterpret_cast<void (*)()>(uffd_guest_read));
}

// An uncorrected, recoverable data load error, as hardware reports poison that was consumed.
bool inject_memory_error(int fd, std::uint64_t address) noexcept {
  kvm_x86_mce error{};
  error.status = 1ull << 63 | 1ull << 61 | 1ull << 60 | 1ull << 59 | 1ull << 58 | 1ull << 56 | 1ull << 55 | 0x134;
  error.addr = address;
  error.mcg_status = 1 << 2 | 1 << 1;  // in progress; the instruction can be restarted
  error.misc = 2 << 6 | 12;
  error.bank = 1;
  return ::ioctl(fd, KVM_X86_SET_MCE, &error) == 0;
}

}  // namespace uffd

#endif
