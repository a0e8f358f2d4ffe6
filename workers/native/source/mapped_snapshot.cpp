#include "source/mapped_snapshot.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

constexpr std::size_t kFirstLook = 64;  // most pages that are not zero show it in their first bytes

template <std::size_t kBytes>
bool all_zero(int fd, std::uint64_t offset) noexcept {
  std::array<std::uint64_t, kBytes / sizeof(std::uint64_t)> words;
  if (::pread(fd, words.data(), kBytes, static_cast<off_t>(offset)) != static_cast<ssize_t>(kBytes)) return false;
  return std::all_of(words.begin(), words.end(), [](std::uint64_t word) { return word == 0; });
}

}  // namespace

MappedSnapshot::MappedSnapshot(const std::string& path) : file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (!file_.valid()) throw KernelError("open of the snapshot " + path, errno);
  struct stat status{};
  if (::fstat(file_.get(), &status) != 0) throw KernelError("fstat of the snapshot " + path, errno);
  if (!S_ISREG(status.st_mode)) throw ConfigError("the snapshot " + path + " is no regular file");
  bytes_ = static_cast<std::uint64_t>(status.st_size);
  if (bytes_ == 0 || bytes_ % kBasePageBytes != 0)
    throw ConfigError("the snapshot " + path + " has " + std::to_string(bytes_) +
                      " bytes, which is no positive multiple of 4096");
  if (bytes_ / kBasePageBytes > 0xffffffffull) throw ConfigError("the snapshot " + path + " has more than 2^32 - 1 pages");
  void* data = ::mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, file_.get(), 0);
  if (data == MAP_FAILED) throw KernelError("mmap of the snapshot " + path, errno, 0, bytes_);
  data_ = static_cast<const std::byte*>(data);
  find_holes(path);
}

MappedSnapshot::~MappedSnapshot() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), bytes_);
}

void MappedSnapshot::find_holes(const std::string& path) {
  for (std::uint64_t at = 0; at < bytes_;) {
    const off_t hole = ::lseek(file_.get(), static_cast<off_t>(at), SEEK_HOLE);
    if (hole < 0) throw KernelError("lseek SEEK_HOLE of the snapshot " + path, errno);
    const off_t data = ::lseek(file_.get(), hole, SEEK_DATA);
    if (data < 0 && errno != ENXIO) throw KernelError("lseek SEEK_DATA of the snapshot " + path, errno);
    at = data < 0 ? bytes_ : static_cast<std::uint64_t>(data);
    const std::uint64_t first = (static_cast<std::uint64_t>(hole) + kBasePageBytes - 1) / kBasePageBytes;
    for (std::uint64_t page = first; page < at / kBasePageBytes; ++page) {
      if (hole_.empty()) hole_.resize(bytes_ / kBasePageBytes);
      hole_[page] = true;
      ++hole_pages_;
    }
  }
}

[[gnu::hot]] bool MappedSnapshot::zero(std::uint64_t offset) const noexcept {
  if (!hole_.empty() && hole_[offset / kBasePageBytes]) return true;
  return all_zero<kFirstLook>(file_.get(), offset) && all_zero<kBasePageBytes>(file_.get(), offset);
}

}  // namespace uffd
