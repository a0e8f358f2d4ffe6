#include "guest/touched_words.hpp"

#include <algorithm>

#include "guest/contents.hpp"
#include "guest/snapshot_file.hpp"
#include "kernel/error.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kChunkBytes = 4 << 20;

}  // namespace

std::vector<std::uint64_t> touched_words(const std::string& path, std::uint64_t region_bytes, std::uint64_t page_bytes,
                                         std::uint64_t seed) {
  const SnapshotFile file(path, region_bytes, page_bytes);
  const Contents seeded(seed, page_bytes);
  const std::uint64_t pages = region_bytes / page_bytes;
  const auto at_once = static_cast<std::uint32_t>(std::max<std::uint64_t>(kChunkBytes / page_bytes, 1));
  std::vector<std::byte> chunk(at_once * page_bytes);
  std::vector<std::uint64_t> words(pages);
  for (PageRun run{0, 0}; run.first < pages; run.first += run.count) {
    run.count = static_cast<std::uint32_t>(std::min<std::uint64_t>(at_once, pages - run.first));
    if (const int error = file.read(run, chunk.data()))
      throw KernelError("reading the snapshot " + path, error, run.first * page_bytes, run.count * page_bytes);
    for (std::uint32_t i = 0; i < run.count; ++i) {
      const std::uint64_t page = run.first + i, index = seeded.touched_word(seeded.base(page));
      words[page] = reinterpret_cast<const std::uint64_t*>(chunk.data() + i * page_bytes)[index];
    }
  }
  return words;
}

}  // namespace uffd
