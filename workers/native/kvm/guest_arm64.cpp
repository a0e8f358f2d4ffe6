// arm64: EL1 (whatever engine.guest_mode says: it has no user mode), flat, 2 MiB blocks. A memory error is a synchronous external
// abort at the touch, which is given up; every other trap ends the guest.
#if defined(__aarch64__)

#include <sys/ioctl.h>

#include <cerrno>

#include "kernel/error.hpp"
#include "kvm/guest_cpu.hpp"
#include "kvm/kvm_words.hpp"

asm(R"(
  .pushsection uffd_guest, "ax", %progbits
  .globl uffd_guest_enter, uffd_guest_read, uffd_guest_write
  .hidden uffd_guest_enter, uffd_guest_read, uffd_guest_write

  .p2align 11
uffd_guest_vectors:               // VBAR_EL1: 16 entries of 128 bytes; the fifth takes what EL1 does by itself
  .set entry, 0
  .rept 16
  .if entry == 4
  b uffd_guest_abort
  .else
  b uffd_guest_trap
  .endif
  .p2align 7
  .set entry, entry + 1
  .endr

uffd_guest_abort:
  stp x1, x2, [sp, #-16]!
  mrs x1, esr_el1
  ubfx x2, x1, #26, #6
  cmp x2, #0x25                   // a data abort of this exception level ...
  b.ne 1f
  and x1, x1, #0x3f
  cmp x1, #0x10                   // ... and external
  b.ne 1f
  mrs x1, elr_el1
  adr x2, uffd_guest_touch_begin
  cmp x1, x2
  b.lo 1f
  adr x2, uffd_guest_touch_end
  cmp x1, x2
  b.hs 1f
  msr elr_el1, x2                 // the access is given up
  ldp x1, x2, [sp], #16
  eret
1:
  ldp x1, x2, [sp], #16
uffd_guest_trap:
  mrs x1, tpidr_el1
  mrs x2, esr_el1
  ubfx x3, x2, #26, #6            // the exception class
  str x3, [x1]
  mrs x3, elr_el1
  str x3, [x1, #8]
  mrs x3, far_el1
  str x3, [x1, #16]
  str x2, [x1, #24]
  movz x1, #0xd000, lsl #16
  mov x2, #3
  str x2, [x1]
  b .

uffd_guest_enter:
  bl uffd_guest_main
  b .
uffd_guest_write:
  mov x2, x0
uffd_guest_touch_begin:
1:
  ldaxr x0, [x2]
  stlxr w3, x0, [x2]
  cbnz w3, 1b
  ret
uffd_guest_read:
  ldr x0, [x0]
uffd_guest_touch_end:
  ret
  .popsection
)");

extern "C" {
[[gnu::visibility("hidden")]] void uffd_guest_vectors();
[[gnu::visibility("hidden")]] void uffd_guest_touch_begin();
[[gnu::visibility("hidden")]] void uffd_guest_touch_end();
}

namespace uffd {

namespace {

constexpr std::uint64_t kPage = 4096, kBlock = 2 << 20, kGib = 1 << 30;

std::uint64_t offset_of(void (*label)()) {
  return static_cast<std::uint64_t>(reinterpret_cast<const std::byte*>(label) - first_guest_byte);
}

void set(int fd, std::uint64_t id, std::uint64_t value, const char* name) {
  kvm_one_reg one{id, reinterpret_cast<std::uint64_t>(&value)};
  if (::ioctl(fd, KVM_SET_ONE_REG, &one) != 0) throw KernelError(name, errno);
}

constexpr std::uint64_t core(std::uint64_t offset) {
  return KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | offset / sizeof(__u32);
}

}  // namespace

std::uint64_t guest_tables_bytes(std::uint64_t end) { return (1 + (end + kGib - 1) / kGib) * kPage; }

void write_guest_tables(std::byte* memory, std::uint64_t end, std::uint64_t, bool) noexcept {
  const std::uint64_t gib = (end + kGib - 1) / kGib;  // at most 512: one table of the first level
  auto* first = reinterpret_cast<std::uint64_t*>(memory + kGuestTablesAt);
  auto* second = first + kPage / 8;
  constexpr std::uint64_t kTable = 3, kLeaf = 1 | 1 << 10 | 3 << 8;  // accessed, inner shareable, attributes 0
  for (std::uint64_t i = 0; i < gib; ++i) first[i] = (kGuestTablesAt + (1 + i) * kPage) | kTable;
  for (std::uint64_t i = 0; i < gib * 512; ++i) second[i] = i * kBlock | kLeaf;
}

void start_guest(int, int vm, int fd, const GuestStart& start) {
  kvm_vcpu_init init{};
  if (::ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init) != 0) throw KernelError("KVM_ARM_PREFERRED_TARGET", errno);
  if (::ioctl(fd, KVM_ARM_VCPU_INIT, &init) != 0) throw KernelError("KVM_ARM_VCPU_INIT", errno);
  set(fd, ARM64_SYS_REG(3, 0, 10, 2, 0), 0xff, "MAIR_EL1");  // attributes 0: write-back
  set(fd, ARM64_SYS_REG(3, 0, 2, 0, 2), 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2ull << 32, "TCR_EL1");  // 39 bits to 40
  set(fd, ARM64_SYS_REG(3, 0, 2, 0, 0), kGuestTablesAt, "TTBR0_EL1");
  set(fd, ARM64_SYS_REG(3, 0, 12, 0, 0), start.code_at + offset_of(uffd_guest_vectors), "VBAR_EL1");
  set(fd, ARM64_SYS_REG(3, 0, 13, 0, 4), start.traps_at, "TPIDR_EL1");
  set(fd, ARM64_SYS_REG(3, 0, 1, 0, 0), 0x30d0'0980 | 1 | 1 << 2 | 1 << 12, "SCTLR_EL1");  // tables and caches on
  set(fd, core(offsetof(kvm_regs, regs.pc)), start.code_at + offset_of(uffd_guest_enter), "PC");
  set(fd, core(offsetof(kvm_regs, sp_el1)), start.stack_at, "SP_EL1");
  set(fd, core(offsetof(kvm_regs, regs.regs[0])), start.vcpu_at, "X0");
  set(fd, core(offsetof(kvm_regs, regs.pstate)), 0x3c5, "PSTATE");  // EL1h, nothing interrupts
  // The guest's counter is to be the host's; a look at it shows whether it is.
  KvmCounterOffset counter{};
  ::ioctl(vm, kArmSetCounterOffset, &counter);
}

bool guest_before_touch(int fd, std::uint64_t code_at) noexcept {
  std::uint64_t at = 0;
  kvm_one_reg one{core(offsetof(kvm_regs, regs.pc)), reinterpret_cast<std::uint64_t>(&at)};
  if (::ioctl(fd, KVM_GET_ONE_REG, &one) != 0) return false;
  at -= code_at;
  const std::uint64_t begin = offset_of(uffd_guest_touch_begin);
  return at == begin || at == begin + 4 || at == offset_of(reinterpret_cast<void (*)()>(uffd_guest_read));  // ldaxr, stlxr, ldr
}

// A synchronous external abort, as hardware reports poison that was consumed.
bool inject_memory_error(int fd, std::uint64_t) noexcept {
  kvm_vcpu_events events{};
  events.exception.ext_dabt_pending = 1;
  return ::ioctl(fd, KVM_SET_VCPU_EVENTS, &events) == 0;
}

}  // namespace uffd

#endif
