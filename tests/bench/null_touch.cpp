// A bare touch of mapped pages: what an access costs when nothing faults, nothing is recorded and nothing is checked.
// null_touch PAGES PASSES CPU: waits for a line on stdin before each measurement, prints one JSON line after it.
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <numeric>
#include <random>
#include <vector>

static double now_s() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

int main(int argc, char** argv) {
  if (argc != 4) return std::fputs("usage: null_touch PAGES PASSES CPU\n", stderr), 2;
  const std::uint64_t pages = std::strtoull(argv[1], nullptr, 10), passes = std::strtoull(argv[2], nullptr, 10);
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(std::strtoul(argv[3], nullptr, 10), &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) return std::perror("sched_setaffinity"), 1;

  const auto fd = static_cast<int>(syscall(SYS_memfd_create, "null_touch", 0u));
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(pages * 4096)) != 0) return std::perror("memfd"), 1;
  void* memory = mmap(nullptr, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return std::perror("mmap"), 1;
  auto* words = static_cast<volatile std::uint64_t*>(memory);
  for (std::uint64_t i = 0; i < pages * 512; ++i) words[i] = i;

  std::vector<std::uint32_t> order(pages);
  std::iota(order.begin(), order.end(), 0u);
  std::mt19937_64 random(1);
  std::shuffle(order.begin(), order.end(), random);
  for (int c = std::getchar(); c != EOF; c = std::getchar()) {
    if (c != '\n') continue;
    const double start = now_s();
    for (std::uint64_t pass = 0; pass < passes; ++pass)
      for (const std::uint32_t page : order) (void)words[page * 512ull + (page * 0x9E3779B97F4A7C15ull >> 55)];
    const double seconds = now_s() - start;
    const double accesses = static_cast<double>(pages * passes);
    std::printf("{\"accesses\": %.0f, \"seconds\": %.9f, \"ns_per_access\": %.3f}\n", accesses, seconds,
                seconds * 1e9 / accesses);
    std::fflush(stdout);
  }
}
