// What the emulated operations of an exit kind cost on this machine, memory type and moment: thread CPU time, in small batches,
// each the difference to a batch of the same work without the operation.
#pragma once

#include "kernel/mapping.hpp"
#include "resolve/strategy.hpp"

namespace uffd {

/// Nanoseconds an operation: the median over batches, and the distance between their quartiles.
struct Cost {
  double median_ns = 0.0;
  double spread_ns = 0.0;
};

struct Calibration {
  Cost exit;                ///< EmulatedBy::exit, with the way back to the access
  Cost slow_gup;            ///< of `exit`: what slow GUP takes until handle_userfault() refuses, with a system call around it
  Cost entry;               ///< EmulatedBy::entry
  double arrival_ns = 0.0;  ///< median from raising an access to the exit's arrival, as fault records show it
};

/// As in a walk over so many `pages` by one vCPU. A few milliseconds and 4 MiB of memory (hugetlb: one free huge page).
/// Operations that `kind` does not make stay 0. Throws KernelError.
Calibration calibrate(ExitKind kind, MemoryType memory, std::uint64_t pages);

}  // namespace uffd
