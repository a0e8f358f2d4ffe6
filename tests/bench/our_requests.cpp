// The same as bare_requests, by the core: a source, and the page server's side of it that a guest's faults ask, each with the
// CPU that it has there. One pass a line.
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "kernel/futex.hpp"
#include "resolve/fill.hpp"
#include "source/remote_source.hpp"
#include "source/source_server.hpp"

using namespace uffd;

namespace {

// Threads begin with the CPU of who starts them.
void pin(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (::sched_setaffinity(0, sizeof set, &set) == 0) return;
  std::perror("sched_setaffinity");
  std::exit(1);
}

double pass(std::uint16_t port, std::uint64_t depth, std::uint64_t pages) {
  const Guest guest({.region_bytes = pages * 4096, .contents_seed = 1});
  fill(guest, std::vector<std::uint8_t>(pages, static_cast<std::uint8_t>(Kind::absent)));
  Mapping alias = Mapping::populated(guest.region_fd(), pages * 4096);
  RemoteSource remote(guest, alias.data(), {.host = "127.0.0.1", .port = port});
  std::atomic<std::uint64_t> asked{0}, came{0};
  FutexWord over{0};
  RemoteSource::Done next;  // a page has come: the next one is asked for, as a fault that is finished lets another begin
  const auto ask = [&] {
    const std::uint64_t page = asked.fetch_add(1);
    if (page >= pages) return;
    guest.claim_fetch(page);
    remote.fetch({page, 1}, {true}, nullptr, next);
  };
  next = [&](Counters&) {
    if (came.fetch_add(1) + 1 == pages) {
      over.store(1);
      futex_wake(over, 1);
    } else {
      ask();
    }
  };
  remote.start();
  const auto begin = std::chrono::steady_clock::now();
  for (std::uint64_t i = 0; i < depth; ++i) ask();
  remote.flush();
  while (over.load() == 0) futex_wait(over, 0, 100'000'000);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  remote.stop();
  return static_cast<double>(pages) / seconds;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::uint64_t depth = std::strtoull(argv[1], nullptr, 10), pages = std::strtoull(argv[2], nullptr, 10);
  pin(0);
  SourceServer source({.region_bytes = pages * 4096, .seed = 1});
  pin(1);
  for (int c; (c = std::getchar()) != EOF;)
    if (c == '\n') {
      std::printf("%.0f\n", pass(source.port(), depth, pages));
      std::fflush(stdout);
    }
}
