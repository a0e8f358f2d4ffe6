// NUMA nodes: where memory is to come from, and where it lies. By system call, without libnuma.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernel/mapping.hpp"

namespace uffd {

enum class NumaMode : std::uint32_t {
  inherit,     ///< the policy of the thread that allocates a page: by default, its own node
  local,       ///< the node of the thread that allocates a page, whatever that thread's policy
  interleave,  ///< page by page over all nodes with memory
  node,        ///< one node, and no other
};
struct NumaPolicy {
  NumaMode mode = NumaMode::inherit;
  std::uint32_t node = 0;
};

/// Of `default`, `local`, `interleave` or `node:N`. Throws ConfigError.
NumaPolicy numa_policy(const std::string& text);
/// Numbers of the nodes with memory, ascending; empty where the kernel has none.
std::vector<int> nodes_with_memory();
/// The numbers of a list as the kernel writes it: "0-3,8".
std::vector<int> parse_kernel_list(const std::string& text);

/// Pages of the mapping that are allocated from now on come from where `policy` has them. Of a memfd: in all its mappings. Throws
/// KernelError.
void place_memory(const Mapping& mapping, const NumaPolicy& policy);

/// The nodes of mapped pages: by node how many of those looked at, which are all, or evenly spread ones of a large region. Pages
/// that are not mapped are on none. Throws KernelError.
std::vector<std::uint64_t> pages_on_nodes(const std::byte* region, std::uint64_t pages, std::uint64_t page_bytes);
/// Most pages that pages_on_nodes() looks at.
inline constexpr std::uint64_t kMostPagesLookedAt = 1 << 18;

}  // namespace uffd
