#include "guest/snapshot_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "kernel/error.hpp"

namespace uffd {

SnapshotFile::SnapshotFile(const std::string& path, std::uint64_t region_bytes, std::uint64_t page_bytes)
    : path_(path), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), page_bytes_(page_bytes) {
  if (!file_.valid()) throw KernelError("open of the snapshot " + path, errno);
  struct stat status{};
  if (::fstat(fd(), &status) != 0) throw KernelError("fstat of the snapshot " + path, errno);
  if (!S_ISREG(status.st_mode)) throw ConfigError("the snapshot " + path + " is no regular file");
  if (static_cast<std::uint64_t>(status.st_size) != region_bytes)
    throw ConfigError("the snapshot " + path + " has " + std::to_string(status.st_size) + " bytes and the region has " +
                      std::to_string(region_bytes) + ": use a snapshot of this region, or another memory.region_mib");
}

int SnapshotFile::read(const PageRun& run, std::byte* to) const noexcept {
  const std::uint64_t bytes = run.count * page_bytes_, at = run.first * page_bytes_;
  for (std::uint64_t done = 0; done < bytes;) {
    const ssize_t got = ::pread(fd(), to + done, bytes - done, static_cast<off_t>(at + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) return EIO;
    done += static_cast<std::uint64_t>(got);
  }
  return 0;
}

}  // namespace uffd
