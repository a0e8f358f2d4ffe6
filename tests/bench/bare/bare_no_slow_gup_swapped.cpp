// Anonymous pages that are swapped out: pagemap shows no PTE, MADV_POPULATE_WRITE has slow GUP bring the page back; then touch
// it.
#include "bare.hpp"

struct NoSlowGupSwapped {
  bare::View view;

  NoSlowGupSwapped(int, std::uint64_t bytes, const bare::Args& args, std::uint64_t) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) bare::die("mmap");
    bare::must(madvise(at, bytes, MADV_NOHUGEPAGE), "MADV_NOHUGEPAGE");
    view.memory = static_cast<char*>(at);
    bare::fill(view.memory, bytes / bare::kPage, args.number("--seed", 1));
    view.uffd = bare::watched(view.memory, bytes, UFFDIO_REGISTER_MODE_MISSING, 0);
  }

  /// Swaps the pages out before a pass, and sees that they are.
  void rearm(std::uint64_t first, std::uint64_t count) const {
    constexpr int kTries = 100;
    for (int tries = 0; tries < kTries; ++tries) {
      int none = 0;
      syscall(SYS_move_pages, 0, 0, nullptr, &none, &none, 0);  // moves nothing, and drains the CPUs' batches of new pages
      bare::must(madvise(view.memory + first * bare::kPage, count * bare::kPage, MADV_PAGEOUT), "MADV_PAGEOUT");
      std::uint64_t out = 0;
      for (std::uint64_t page = first; page < first + count; ++page)
        out += bare::pagemap_entry(view.memory + page * bare::kPage) >> 62 & 1;
      if (out == count) return;
    }
    bare::die("MADV_PAGEOUT leaves pages in memory: is there swap?");
  }
  std::uint64_t touch(std::uint64_t page, std::uint64_t word) const {
    char* at = view.memory + page * bare::kPage;
    if (bare::pagemap_entry(at) >> 63 == 0) bare::must(madvise(at, bare::kPage, MADV_POPULATE_WRITE), "MADV_POPULATE_WRITE");
    return reinterpret_cast<const volatile std::uint64_t*>(at)[word];
  }
};

int main(int argc, char** argv) { return bare::run<NoSlowGupSwapped>(argc, argv); }
