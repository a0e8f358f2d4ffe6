// What differs between guest architectures: a handful of instructions inside the guest, and the registers and tables that
// make a vCPU run them. One file an architecture, guest_<architecture>.cpp, holds both.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uffd {

// --- inside the guest -----------------------------------------------------------------------------------------------
// All of it lies in the section uffd_guest, which is copied into the guest as it is: nothing in it may refer to the outside.

extern "C" {
/// Loads the word; adds 0 to the word and returns it, atomically. A memory error there makes them return.
[[gnu::visibility("hidden")]] std::uint64_t uffd_guest_read(const std::uint64_t* word);
[[gnu::visibility("hidden")]] std::uint64_t uffd_guest_write(std::uint64_t* word);
/// Where a vCPU begins: its GuestVcpu is in the first argument's register.
[[gnu::visibility("hidden")]] void uffd_guest_enter();
[[gnu::visibility("hidden")]] extern const std::byte first_guest_byte[] asm("__start_uffd_guest");
[[gnu::visibility("hidden")]] extern const std::byte end_guest_byte[] asm("__stop_uffd_guest");
}

/// The counter the host's Clock reads, as the guest sees it.
[[gnu::always_inline]] inline std::uint64_t guest_counter() noexcept {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  std::uint64_t ticks;
  asm volatile("isb\n mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#endif
}

/// What the guest's trap handlers leave: they know it by its address only, and its fields by their order.
struct alignas(64) GuestTraps {
  std::uint64_t vector, at, address, error;  ///< of the trap that ended the guest
};

// --- on the host ----------------------------------------------------------------------------------------------------

/// Addresses in the guest, virtual and physical alike. A vCPU's own memory is a stack below its GuestVcpu.
inline constexpr std::uint64_t kGuestTablesAt = 0x1000;       ///< page tables and descriptors: to kGuestCodeAt
inline constexpr std::uint64_t kGuestDoorbell = 0xd000'0000;  ///< in no slot: a write to it leaves the guest
inline constexpr std::uint64_t kGuestSlotsAt = 1ull << 32;    ///< the region and what follows it

/// Bytes of page tables and descriptors that map [0, end).
std::uint64_t guest_tables_bytes(std::uint64_t end);
/// Writes them to `memory`, the guest's address 0.
void write_guest_tables(std::byte* memory, std::uint64_t end, std::uint64_t code_at, bool kernel_mode) noexcept;

struct GuestStart {
  std::uint64_t code_at;   ///< of the section uffd_guest
  std::uint64_t vcpu_at;   ///< the GuestVcpu
  std::uint64_t stack_at;  ///< its end
  std::uint64_t traps_at;  ///< GuestTraps, in a page of their own
  std::byte* traps;        ///< that page
  bool kernel_mode;
};
/// Makes the vCPU `fd` ready to run. Throws KernelError.
/// `kvm` and `vm`: the descriptors of /dev/kvm and of the VM.
void start_guest(int kvm, int vm, int fd, const GuestStart& start);
/// Whether the vCPU stands at the instruction of a touch, its access not done.
bool guest_before_touch(int fd, std::uint64_t code_at) noexcept;
/// Has the vCPU take a memory error for `address` when it runs next. False: this platform cannot.
bool inject_memory_error(int fd, std::uint64_t address) noexcept;

}  // namespace uffd
