// What an emulated exit costs on this machine.
#pragma once

#include <cstdint>

#include "kernel/mapping.hpp"
#include "resolve/strategy.hpp"

namespace uffd {

/// Nanoseconds one emulated exit costs on this machine and memory type: a SIGBUS taken at a touch and returned from, one
/// pagemap read, or a refused MADV_POPULATE_WRITE. Throws KernelError; hugetlb needs one free huge page.
double calibrate_exit(ExitKind kind, MemoryType memory, std::uint64_t rounds);

}  // namespace uffd
