// A memory snapshot that another program wrote, mapped whole: pages are installed straight from it, and what it has no contents
// for is known. One mapping serves all VMM processes. This process reads it through the file alone, so that a file that becomes
// shorter is an errno here and in UFFDIO_COPY, and no SIGBUS.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/descriptor.hpp"

namespace uffd {

class MappedSnapshot {
 public:
  /// Throws KernelError, and ConfigError when it is no regular file of whole pages.
  explicit MappedSnapshot(const std::string& path);
  ~MappedSnapshot();
  MappedSnapshot(const MappedSnapshot&) = delete;
  MappedSnapshot& operator=(const MappedSnapshot&) = delete;

  std::uint64_t bytes() const noexcept { return bytes_; }
  /// Pages of 4 KiB in holes of the file.
  std::uint64_t hole_pages() const noexcept { return hole_pages_; }
  const std::byte* at(std::uint64_t offset) const noexcept { return data_ + offset; }
  /// Whether the 4-KiB page at `offset` lies in a hole or holds zeros alone.
  bool zero(std::uint64_t offset) const noexcept;

 private:
  void find_holes(const std::string& path);

  Descriptor file_;
  std::uint64_t bytes_ = 0, hole_pages_ = 0;
  const std::byte* data_ = nullptr;
  std::vector<bool> hole_;  ///< by page; empty without a hole
};

}  // namespace uffd
