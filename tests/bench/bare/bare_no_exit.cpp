// No exit and nothing in place of one: the vCPU CONTINUEs the block of a page it has not resolved yet, then touches the page.
// `--around N`: pages of a block.
#include "bare.hpp"

struct NoExit {
  bare::View view;
  std::uint64_t around;
  std::vector<char> resolved;  // by block

  NoExit(int fd, std::uint64_t bytes, const bare::Args& args, std::uint64_t)
      : view(bare::registered(fd, bytes, 0)), around(args.number("--around", 1)), resolved(bytes / bare::kPage / around) {}

  /// The pages of a vCPU are whole blocks.
  void rearm(std::uint64_t first, std::uint64_t count) {
    bare::must(madvise(view.memory + first * bare::kPage, count * bare::kPage, MADV_DONTNEED), "MADV_DONTNEED");
    std::fill_n(resolved.begin() + static_cast<std::ptrdiff_t>(first / around), count / around, 0);
  }

  std::uint64_t touch(std::uint64_t page, std::uint64_t word) {
    char* at = view.memory + page * bare::kPage;
    if (char& done = resolved[page / around]; done == 0) {
      uffdio_continue request{
          .range = {.start = reinterpret_cast<std::uint64_t>(view.memory) + page / around * around * bare::kPage,
                    .len = around * bare::kPage},
          .mode = UFFDIO_CONTINUE_MODE_DONTWAKE,
          .mapped = 0};
      bare::must(ioctl(view.uffd, UFFDIO_CONTINUE, &request), "UFFDIO_CONTINUE");
      done = 1;
    }
    return reinterpret_cast<const volatile std::uint64_t*>(at)[word];
  }
};

int main(int argc, char** argv) { return bare::run<NoExit>(argc, argv); }
