// Today's kernel: the vCPU touches and sleeps; a reader polls, reads a batch of events, CONTINUEs each page and wakes.
#include "bare.hpp"

struct UffdWait {
  static constexpr std::uint64_t kBatch = 16;
  bare::View view;

  UffdWait(int fd, std::uint64_t bytes, const bare::Args& args, std::uint64_t vmm) : view(bare::registered(fd, bytes, 0)) {
    if (args.number("--readers-apart", 0) == 0) start_readers(view, args, vmm);
  }

  static void start_readers(const bare::View& view, const bare::Args& args, std::uint64_t vmm) {
    const std::uint64_t readers = args.number("--readers", 1);
    for (std::uint64_t i = 0; i < readers; ++i)
      std::thread([view, cpus = args.cpus("--reader-cpus"), number = vmm * readers + i] {
        bare::pin(cpus, number);
        read_events(view);
      }).detach();
  }

  [[noreturn]] static void read_events(const bare::View& view) {
    uffd_msg events[kBatch];
    pollfd ready{.fd = view.uffd, .events = POLLIN, .revents = 0};
    while (true) {
      bare::must(poll(&ready, 1, -1), "poll");
      const ssize_t got = read(view.uffd, events, sizeof events);
      if (got < 0 && errno != EAGAIN) bare::die("read");  // EAGAIN: another reader was faster
      for (ssize_t i = 0; i < got / static_cast<ssize_t>(sizeof(uffd_msg)); ++i) {
        const std::uint64_t at = events[i].arg.pagefault.address - reinterpret_cast<std::uint64_t>(view.memory);
        if (!view.install(at / bare::kPage, 0)) bare::die("UFFDIO_CONTINUE");
      }
    }
  }

  std::uint64_t touch(std::uint64_t page, std::uint64_t word) const {
    return reinterpret_cast<const volatile std::uint64_t*>(view.memory + page * bare::kPage)[word];
  }
};

int main(int argc, char** argv) { return bare::run<UffdWait>(argc, argv); }
