// UFFD_FEATURE_SIGBUS: handle_userfault() refuses to sleep, and the signal handler CONTINUEs the page without a wake.
#include <csignal>

#include "bare.hpp"

static bare::View handled;  // the one view of this process; a signal handler has no argument of its own

static void on_sigbus(int, siginfo_t* info, void*) {
  const std::uint64_t at = reinterpret_cast<std::uint64_t>(info->si_addr) - reinterpret_cast<std::uint64_t>(handled.memory);
  if (!handled.install(at / bare::kPage, UFFDIO_CONTINUE_MODE_DONTWAKE)) bare::die("UFFDIO_CONTINUE");
}

struct NoUffdWait {
  bare::View view;

  NoUffdWait(int fd, std::uint64_t bytes, const bare::Args&, std::uint64_t)
      : view(bare::registered(fd, bytes, UFFD_FEATURE_SIGBUS)) {
    handled = view;
    struct sigaction action{};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    bare::must(sigaction(SIGBUS, &action, nullptr), "sigaction");
  }
  std::uint64_t touch(std::uint64_t page, std::uint64_t word) const {
    return reinterpret_cast<const volatile std::uint64_t*>(view.memory + page * bare::kPage)[word];
  }
};

int main(int argc, char** argv) { return bare::run<NoUffdWait>(argc, argv); }
