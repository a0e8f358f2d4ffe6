// A memory snapshot: a file that is the guest region, byte for byte, whatever it holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "guest/page_run.hpp"
#include "kernel/descriptor.hpp"

namespace uffd {

class SnapshotFile {
 public:
  /// Opens it to be read. Throws KernelError, and ConfigError when it is no regular file of that size.
  SnapshotFile(const std::string& path, std::uint64_t region_bytes, std::uint64_t page_bytes);
  /// Reads pages, holes as zeros; the errno when that fails, EIO when the file has become shorter.
  int read(const PageRun& run, std::byte* to) const noexcept;
  const std::string& path() const noexcept { return path_; }
  int fd() const noexcept { return file_.get(); }

 private:
  std::string path_;
  Descriptor file_;
  std::uint64_t page_bytes_;
};

}  // namespace uffd
