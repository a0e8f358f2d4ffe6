// What the vCPUs are to find in a snapshot that holds anything, read before they start.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace uffd {

/// Of every page the word that a vCPU touches under `seed`, as the file has it; all of the file is read. Throws
/// KernelError, and ConfigError when it is no regular file of that size.
std::vector<std::uint64_t> touched_words(const std::string& path, std::uint64_t region_bytes, std::uint64_t page_bytes,
                                         std::uint64_t seed);

}  // namespace uffd
