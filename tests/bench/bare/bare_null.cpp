// No userfaultfd: the vCPU touches, and the kernel maps the page from the page cache (and its neighbours, by fault-around).
#include "bare.hpp"

struct Null {
  bare::View view;
  Null(int fd, std::uint64_t bytes, const bare::Args&, std::uint64_t) : view{bare::map(fd, bytes), -1} {}
  std::uint64_t touch(std::uint64_t page, std::uint64_t word) const {
    return reinterpret_cast<const volatile std::uint64_t*>(view.memory + page * bare::kPage)[word];
  }
};

int main(int argc, char** argv) { return bare::run<Null>(argc, argv); }
