#if defined(__x86_64__)

#include <sys/ioctl.h>

#include <cerrno>

#include "kernel/error.hpp"
#include "kvm/guest_cpu.hpp"
#include "kvm/kvm_words.hpp"
#include "kvm/own_access_guest.hpp"

// rdi: a word to read, rsi: the doorbell, which gets that word's lowest byte.
asm(R"(
  .pushsection uffd_guest, "ax", @progbits
  .p2align 4
uffd_guest_own_access:
  movq (%rdi), %rax
  movq %rax, (%rsi)
  ud2
  .popsection
)");
extern "C" [[gnu::visibility("hidden")]] void uffd_guest_own_access();

namespace uffd {

namespace {

constexpr std::uint64_t kSystemTime = 0x4b564d01, kStealTime = 0x4b564d03;  // MSRs: where KVM is to write
constexpr std::uint64_t kOn = 1;
constexpr std::uint64_t kEntry = 7, kAddress = 0x000f'ffff'ffff'f000;  // present, writable, user

bool set_msr(int vcpu, std::uint32_t number, std::uint64_t value) {
  KvmList<kvm_msr_entry, 1> msrs;
  msrs.entries[0] = {number, 0, value};
  return ::ioctl(vcpu, kSetMsrs, &msrs) == 1;
}

}  // namespace

std::uint64_t own_access_page(std::uint64_t word) noexcept { return (word & kAddress) | kEntry; }

void own_access_table(int vcpu, std::byte* memory, std::uint64_t address, std::uint64_t table) {
  const auto words = [memory](std::uint64_t at) { return reinterpret_cast<std::uint64_t*>(memory + at); };
  kvm_sregs system{};
  if (::ioctl(vcpu, KVM_GET_SREGS, &system) != 0) throw KernelError("KVM_GET_SREGS", errno);
  std::uint64_t above = system.cr3;
  for (const unsigned shift : {39u, 30u}) above = words(above)[address >> shift & 511] & kAddress;
  words(above)[address >> 21 & 511] = table | kEntry;
}

void own_access_begin(int vcpu, std::uint64_t code_at, std::uint64_t address) {
  kvm_regs registers{};
  if (::ioctl(vcpu, KVM_GET_REGS, &registers) != 0) throw KernelError("KVM_GET_REGS", errno);
  registers.rip =
      code_at + static_cast<std::uint64_t>(reinterpret_cast<const std::byte*>(uffd_guest_own_access) - first_guest_byte);
  registers.rdi = address;
  registers.rsi = kGuestDoorbell;
  if (::ioctl(vcpu, KVM_SET_REGS, &registers) != 0) throw KernelError("KVM_SET_REGS", errno);
}

// KVM writes the time, and the time the guest could not run, into a page of the guest's.
std::vector<OwnWrite> own_writes() {
  return {{"steal_time", [](int vcpu, std::uint64_t at) { return set_msr(vcpu, kStealTime, at | kOn); }},
          {"clock", [](int vcpu, std::uint64_t at) { return set_msr(vcpu, kSystemTime, at | kOn); }}};
}

}  // namespace uffd

#endif
