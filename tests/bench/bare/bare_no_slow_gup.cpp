// Fast GUP only, as pagemap shows it: is the PTE present? If not, CONTINUE the page without a wake; then touch it.
#include "bare.hpp"

struct NoSlowGup {
  bare::View view;

  NoSlowGup(int fd, std::uint64_t bytes, const bare::Args&, std::uint64_t) : view(bare::registered(fd, bytes, 0)) {}

  std::uint64_t touch(std::uint64_t page, std::uint64_t word) const {
    const char* at = view.memory + page * bare::kPage;
    if (bare::pagemap_entry(at) >> 63 == 0 && !view.install(page, UFFDIO_CONTINUE_MODE_DONTWAKE)) bare::die("UFFDIO_CONTINUE");
    return reinterpret_cast<const volatile std::uint64_t*>(at)[word];
  }
};

int main(int argc, char** argv) { return bare::run<NoSlowGup>(argc, argv); }
