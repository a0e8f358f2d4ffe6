#include "source/snapshot.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "guest/contents.hpp"
#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kChunkBytes = 4 << 20;
constexpr std::chrono::milliseconds kDropPause{2};
constexpr int kDropPauses = 250;  // before what is left stays: memory that is its own disk (tmpfs) never drops it

// Pages of the file in the page cache.
std::uint64_t resident(int fd, std::uint64_t bytes) {
  void* mapped = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) throw KernelError("mmap of the snapshot", errno, 0, bytes);
  std::vector<unsigned char> pages((bytes + kBasePageBytes - 1) / kBasePageBytes);
  const int result = ::mincore(mapped, bytes, pages.data());
  const int error = errno;
  ::munmap(mapped, bytes);
  if (result != 0) throw KernelError("mincore of the snapshot", error, 0, bytes);
  return static_cast<std::uint64_t>(std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return page & 1; }));
}

// Drops the file from the page cache; how many pages stayed. The kernel passes over a page that is in use at that moment (its own
// reclaim has taken it, a reader has just ended), so what stays is tried again.
std::uint64_t drop_from_page_cache(int fd, const std::string& path, std::uint64_t bytes) {
  ::fsync(fd);  // dirty pages are not dropped
  std::uint64_t left = 0;
  for (int pauses = 0; pauses <= kDropPauses; ++pauses) {
    if (pauses != 0) std::this_thread::sleep_for(kDropPause);
    if (const int error = ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
      throw KernelError("posix_fadvise of the snapshot " + path, error);
    left = resident(fd, bytes);
    if (left == 0) break;
  }
  return left;
}

}  // namespace

Snapshot::Snapshot(const std::string& path, std::uint64_t region_bytes, std::uint64_t page_bytes, bool cold)
    : SnapshotFile(path, region_bytes, page_bytes) {
  if (!cold) {
    // Warm is prepared too: every page of it is in the page cache when the clock starts.
    const std::uint64_t pages = region_bytes / page_bytes, at_once = std::max<std::uint64_t>(kChunkBytes / page_bytes, 1);
    std::vector<std::byte> chunk(at_once * page_bytes);
    for (std::uint64_t page = 0; page < pages; page += at_once)
      if (const int error = read({page, static_cast<std::uint32_t>(std::min(at_once, pages - page))}, chunk.data()))
        throw KernelError("reading the snapshot " + path, error, 0, region_bytes);
    return;
  }
  if (const std::uint64_t left = drop_from_page_cache(fd(), path, region_bytes))
    throw ConfigError("source.cache=cold, but " + std::to_string(left) + " pages of the snapshot " + path +
                      " stay in the page cache: put it on a disk's file system (not tmpfs), or use source.cache=warm");
}

void write_snapshot(const std::string& path, std::uint64_t region_bytes, std::uint64_t page_bytes, std::uint64_t seed) {
  const std::string part = path + ".part";
  const Descriptor file(::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file.valid()) throw KernelError("making the snapshot " + part, errno);
  const auto write = [&] {
    const Contents contents(seed, page_bytes);
    const std::uint64_t chunk_bytes = std::max(page_bytes, kChunkBytes);
    std::vector<std::byte> chunk(chunk_bytes);
    for (std::uint64_t at = 0; at < region_bytes; at += chunk_bytes) {
      const std::uint64_t bytes = std::min(chunk_bytes, region_bytes - at);
      for (std::uint64_t i = 0; i < bytes; i += page_bytes) contents.fill((at + i) / page_bytes, chunk.data() + i);
      for (std::uint64_t done = 0; done < bytes;) {
        const ssize_t wrote = ::write(file.get(), chunk.data() + done, bytes - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) throw KernelError("writing the snapshot " + part, errno, 0, region_bytes);
        done += static_cast<std::uint64_t>(wrote);
      }
    }
    if (::fsync(file.get()) != 0) throw KernelError("fsync of the snapshot " + part, errno);
    if (::rename(part.c_str(), path.c_str()) != 0) throw KernelError("renaming the snapshot " + part, errno);
  };
  try {
    write();
  } catch (...) {
    ::unlink(part.c_str());
    throw;
  }
}

void check_snapshot(const std::string& path, std::uint64_t region_bytes, std::uint64_t page_bytes, std::uint64_t seed) {
  const SnapshotFile file(path, region_bytes, page_bytes);
  const Contents contents(seed, page_bytes);
  std::vector<std::byte> page(page_bytes);
  for (std::uint64_t i = 0; i < region_bytes / page_bytes; ++i) {
    if (const int error = file.read({i, 1}, page.data()))
      throw KernelError("reading the snapshot " + path, error, i * page_bytes, page_bytes);
    std::uint64_t word = 0;
    if (contents.wrong_words(i, page.data(), word) != 0)
      throw ConfigError(
          "the snapshot " + path + " does not hold the contents of seed " + std::to_string(seed) + " (page " + std::to_string(i) +
          ", word " + std::to_string(word) +
          " differs): set seed to the one it was written with, or use source.contents=file, which verifies against the " +
          "file whatever it holds");
  }
}

}  // namespace uffd
