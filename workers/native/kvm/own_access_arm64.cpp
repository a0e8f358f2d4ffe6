#if defined(__aarch64__)

#include <sys/ioctl.h>

#include <cerrno>

#include "kernel/error.hpp"
#include "kvm/guest_cpu.hpp"
#include "kvm/kvm_words.hpp"
#include "kvm/own_access_guest.hpp"

// x0: a word to read, x1: the doorbell, which gets that word's lowest byte.
asm(R"(
  .pushsection uffd_guest, "ax", %progbits
  .p2align 4
uffd_guest_own_access:
  ldr x2, [x0]
  str x2, [x1]
  b .
  .popsection
)");
extern "C" [[gnu::visibility("hidden")]] void uffd_guest_own_access();

namespace uffd {

namespace {

constexpr std::uint64_t kAddress = 0x0000'ffff'ffff'f000;
constexpr std::uint64_t kTable = 3, kPage = 3 | 1 << 10 | 3 << 8;  // accessed, inner shareable, attributes 0

void set_register(int vcpu, std::uint64_t offset, std::uint64_t value) {
  kvm_one_reg one{KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | offset / sizeof(__u32),
                  reinterpret_cast<std::uint64_t>(&value)};
  if (::ioctl(vcpu, KVM_SET_ONE_REG, &one) != 0) throw KernelError("KVM_SET_ONE_REG", errno);
}

}  // namespace

std::uint64_t own_access_page(std::uint64_t word) noexcept { return (word & kAddress) | kPage; }

void own_access_table(int, std::byte* memory, std::uint64_t address, std::uint64_t table) {
  const auto words = [memory](std::uint64_t at) { return reinterpret_cast<std::uint64_t*>(memory + at); };
  const std::uint64_t above = words(kGuestTablesAt)[address >> 30 & 511] & kAddress;
  words(above)[address >> 21 & 511] = table | kTable;
}

void own_access_begin(int vcpu, std::uint64_t code_at, std::uint64_t address) {
  const auto code = static_cast<std::uint64_t>(reinterpret_cast<const std::byte*>(uffd_guest_own_access) - first_guest_byte);
  set_register(vcpu, offsetof(kvm_regs, regs.pc), code_at + code);
  set_register(vcpu, offsetof(kvm_regs, regs.regs[0]), address);
  set_register(vcpu, offsetof(kvm_regs, regs.regs[1]), kGuestDoorbell);
}

// KVM writes the time that the guest could not run.
std::vector<OwnWrite> own_writes() {
  return {{"steal_time", [](int vcpu, std::uint64_t at) {
             kvm_device_attr attribute{0, KVM_ARM_VCPU_PVTIME_CTRL, KVM_ARM_VCPU_PVTIME_IPA,
                                       reinterpret_cast<std::uint64_t>(&at)};
             return ::ioctl(vcpu, KVM_SET_DEVICE_ATTR, &attribute) == 0;
           }}};
}

}  // namespace uffd

#endif
