// What differs between architectures of the accesses that KVM makes by itself; one file each, own_access_<architecture>.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace uffd {

/// A page entry of the lowest table, for the page of `word`.
std::uint64_t own_access_page(std::uint64_t word) noexcept;
/// Puts the page at `table` into the guest's tables (`memory` is its address 0), as the one that maps `address`. Throws
/// KernelError.
void own_access_table(int vcpu, std::byte* memory, std::uint64_t address, std::uint64_t table);
/// Has the vCPU, next, load the word at `address` and store it to the doorbell. Throws KernelError.
void own_access_begin(int vcpu, std::uint64_t code_at, std::uint64_t address);

/// Something KVM writes into a page of the guest by itself: asked for, at a guest address. False: this KVM cannot.
struct OwnWrite {
  const char* name;
  bool (*ask)(int vcpu, std::uint64_t at);
};
std::vector<OwnWrite> own_writes();

/// Whether there are KVMs of this architecture that execute a guest's instructions themselves.
#if defined(__x86_64__)
inline constexpr bool kKvmMayEmulate = true;
#else
inline constexpr bool kKvmMayEmulate = false;
#endif

}  // namespace uffd
