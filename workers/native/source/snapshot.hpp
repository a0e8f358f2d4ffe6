// The snapshot that pages are served from, in the page cache or out of it; and snapshots of seeded contents, which anyone can
// check.
#pragma once

#include <cstdint>
#include <string>

#include "guest/snapshot_file.hpp"

namespace uffd {

class Snapshot : public SnapshotFile {
 public:
  /// Opens it. `cold`: its pages are dropped from the page cache, and proven gone. Throws ConfigError and KernelError.
  Snapshot(const std::string& path, std::uint64_t region_bytes, std::uint64_t page_bytes, bool cold);
};

/// Writes the contents of `seed` to a new file and renames it into place. Throws KernelError.
void write_snapshot(const std::string& path, std::uint64_t region_bytes, std::uint64_t page_bytes, std::uint64_t seed);
/// Reads all of it; throws ConfigError when it has another size, or other contents than those of `seed`.
void check_snapshot(const std::string& path, std::uint64_t region_bytes, std::uint64_t page_bytes, std::uint64_t seed);

}  // namespace uffd
