// The ledger of what the thread engine emulates. A real exit from KVM_RUN, and the stage-2 table in front of it, exist under a
// hypervisor only; here a system call or a signal stands in for each of them. This is the one list of those operations: what
// each is called, where it is counted (Counter), what it stands for, and what is known of the cost of the real one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "guest/counters.hpp"
#include "resolve/strategy.hpp"

namespace uffd {

enum class Emulated : std::size_t {
  probe_missed,      ///< one pagemap read that found no PTE
  probe_found,       ///< one pagemap read that found the page mapped
  signal,            ///< a SIGBUS taken at the touch, and the way back to the touch
  populate_refused,  ///< MADV_POPULATE_WRITE in front of the touch, refused
  populate_done,     ///< MADV_POPULATE_WRITE in front of the touch, of a page that is there or that slow GUP gets
  count
};
inline constexpr std::size_t kEmulatedOperations = static_cast<std::size_t>(Emulated::count);

struct EmulatedOperation {
  const char* name;        ///< the data set's
  Counter counter;         ///< incremented where the operation is made
  const char* stands_for;  ///< what a hypervisor has in its place
  const char* real_cost;   ///< of that, as far as it is known
};

inline constexpr std::array<EmulatedOperation, kEmulatedOperations> kEmulatedOperation{{
    {"probe_missed", Counter::emulated_probes_missed, "an exit from KVM_RUN after fast GUP failed",
     "unknown: no released kernel has that exit; the kvm engine measures the exits there are"},
    {"probe_found", Counter::emulated_probes_found, "a stage-2 violation that fast GUP repairs, with no exit",
     "paid by every strategy under a hypervisor, by none here once it is subtracted; the kvm engine has the real one"},
    {"signal", Counter::emulated_signals, "slow GUP that handle_userfault() refuses, and an exit from KVM_RUN",
     "slow GUP is real and cannot be separated: calibrated as a refused populate; the exit is the kvm engine's"},
    {"populate_refused", Counter::emulated_populates_refused, "slow GUP that handle_userfault() refuses, and an exit",
     "slow GUP is real, the system call around it is not: they cannot be separated"},
    {"populate_done", Counter::emulated_populates_done, "a stage-2 violation that GUP repairs, with no exit",
     "paid by every strategy under a hypervisor, by none here once it is subtracted; a swap-in inside it is real"},
}};

inline const EmulatedOperation& emulated_operation(Emulated which) { return kEmulatedOperation[static_cast<std::size_t>(which)]; }

/// What stands for an exit of this kind, and what for a stage-2 violation that makes none (`count`: nothing does).
struct EmulatedBy {
  Emulated exit, entry;
};
constexpr EmulatedBy emulated_by(ExitKind kind) {
  switch (kind) {
    case ExitKind::signal: return {Emulated::signal, Emulated::count};
    case ExitKind::probe: return {Emulated::probe_missed, Emulated::probe_found};
    case ExitKind::populate: return {Emulated::populate_refused, Emulated::populate_done};
    case ExitKind::none: break;
  }
  return {Emulated::count, Emulated::count};
}

/// The descriptor of /proc/self/pagemap that present() reads, of this thread. Throws KernelError.
void open_pagemap();
void close_pagemap() noexcept;
/// Whether the page's PTE is present: the emulated fast GUP. One system call.
bool present(const void* address) noexcept;
/// MADV_POPULATE_WRITE: the errno, 0: the page is mapped and writable. One system call.
int populate(std::byte* at, std::uint64_t bytes) noexcept;

}  // namespace uffd
