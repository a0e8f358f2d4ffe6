// Memory blocks, the units in which a host's memory is plugged and unplugged (128 MiB on x86). Before the kernel takes one
// offline it moves every page in it to another frame, by the same migration as compaction.
#pragma once

#include <cstdint>

namespace uffd {

/// Bytes of a block; 0 where memory cannot be taken offline: no such support, not root, or huge pages are reserved, of which
/// free ones in a block would be lost.
std::uint64_t memory_block_bytes();

/// Takes a block offline and brings it back, in a process of its own: one that is killed meanwhile leaves no memory offline.
/// Bounded in time. False when the kernel refused, as it does where something in the block cannot move.
bool take_offline_and_back(std::uint64_t block);

}  // namespace uffd
