// A memory snapshot: a file that is the guest region, byte for byte. Its contents are those of a seed, which anyone can check.
#pragma once

#include <cstdint>
#include <string>

#include "guest/page_run.hpp"
#include "kernel/descriptor.hpp"

namespace uffd {

class Snapshot {
 public:
  /// Opens it. `cold`: its pages are dropped from the page cache, and proven gone. Throws ConfigError and KernelError.
  Snapshot(const std::string& path, std::uint64_t region_bytes, std::uint64_t page_bytes, bool cold);
  /// Reads pages; the errno when that fails, EIO when the file has become shorter.
  int read(const PageRun& run, std::byte* to) const noexcept;
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
  Descriptor file_;
  std::uint64_t page_bytes_;
};

/// Opens it to be read. Throws KernelError, and ConfigError when it is no regular file of that size.
Descriptor open_snapshot(const std::string& path, std::uint64_t region_bytes);
/// Writes the contents of `seed` to a new file and renames it into place. Throws KernelError.
void write_snapshot(const std::string& path, std::uint64_t region_bytes, std::uint64_t page_bytes, std::uint64_t seed);
/// Reads all of it; throws ConfigError when it has another size, or other contents than those of `seed`.
void check_snapshot(const std::string& path, std::uint64_t region_bytes, std::uint64_t page_bytes, std::uint64_t seed);

}  // namespace uffd
