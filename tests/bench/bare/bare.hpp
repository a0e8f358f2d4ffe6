// What every bare loop needs and none is about: arguments, a filled memfd, a userfaultfd, pinning, the passes.
// It shares nothing with the project's core, so that a mistake there cannot hide here.
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace bare {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kWords = kPage / 8;
constexpr std::uint64_t kStride = 0x9E3779B97F4A7C15ull;

[[noreturn]] inline void die(const char* what) {
  std::perror(what);
  std::_Exit(1);
}
inline int must(int result, const char* what) {
  if (result == -1) die(what);
  return result;
}

/// `--name value` pairs. `--processes 1` forks a process a vCPU, `--readers-apart 1` leaves their readers in the parent;
/// `--rearm N` waits for a line on stdin before each of N passes.
class Args {
 public:
  Args(int argc, char** argv) {
    for (int i = 1; i + 1 < argc; i += 2) values_[argv[i]] = argv[i + 1];
  }
  std::uint64_t number(const char* name, std::uint64_t otherwise) const {
    const auto at = values_.find(name);
    return at == values_.end() ? otherwise : std::strtoull(at->second.c_str(), nullptr, 0);
  }
  std::string text(const char* name, const char* otherwise) const {
    const auto at = values_.find(name);
    return at == values_.end() ? otherwise : at->second;
  }
  std::vector<int> cpus(const char* name) const {
    std::vector<int> list;
    const std::string all = text(name, "");
    for (const char* at = all.c_str(); *at != 0;) {
      char* end = nullptr;
      list.push_back(static_cast<int>(std::strtol(at, &end, 10)));
      at = *end == ',' ? end + 1 : end;
    }
    return list;
  }

 private:
  std::map<std::string, std::string> values_;
};

/// Pins this thread to the CPU of its number in the list, round and round; an empty list leaves it alone.
inline void pin(const std::vector<int>& cpus, std::uint64_t thread) {
  if (cpus.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpus[thread % cpus.size()]), &set);
  must(sched_setaffinity(0, sizeof set, &set), "sched_setaffinity");
}

inline std::int64_t now_ns(clockid_t clock = CLOCK_MONOTONIC) {
  timespec time{};
  clock_gettime(clock, &time);
  return time.tv_sec * 1'000'000'000ll + time.tv_nsec;
}

inline std::uint64_t base_of(std::uint64_t seed, std::uint64_t page) {
  std::uint64_t x = (seed ^ (page * 0xD1B54A32D192ED03ull)) + kStride;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

inline char* map(int fd, std::uint64_t bytes) {
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
  if (at == MAP_FAILED) die("mmap");
  if (fd >= 0) must(madvise(at, bytes, MADV_NOHUGEPAGE), "MADV_NOHUGEPAGE");
  return static_cast<char*>(at);
}

/// Writes the contents of every page.
inline void fill(char* memory, std::uint64_t pages, std::uint64_t seed) {
  auto* words = reinterpret_cast<std::uint64_t*>(memory);
  for (std::uint64_t page = 0; page < pages; ++page) {
    const std::uint64_t base = base_of(seed, page);
    for (std::uint64_t i = 0; i < kWords; ++i) words[page * kWords + i] = base + i * kStride;
  }
}

/// What pagemap says of a page: bit 63, its PTE is present; bit 62, it is swapped out.
inline std::uint64_t pagemap_entry(const char* at) {
  thread_local const int pagemap = must(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), "pagemap");
  std::uint64_t entry = 0;
  const auto offset = static_cast<off_t>(reinterpret_cast<std::uint64_t>(at) / kPage * sizeof entry);
  if (pread(pagemap, &entry, sizeof entry, offset) != sizeof entry) die("pread of pagemap");
  return entry;
}

/// One VMM's view of the guest: its own mapping of the memfd and its userfaultfd (-1 without).
struct View {
  char* memory = nullptr;
  int uffd = -1;

  bool install(std::uint64_t page, std::uint64_t mode) const {
    uffdio_continue request{
        .range = {.start = reinterpret_cast<std::uint64_t>(memory) + page * kPage, .len = kPage}, .mode = mode, .mapped = 0};
    return ioctl(uffd, UFFDIO_CONTINUE, &request) == 0;
  }
};

/// A userfaultfd registered over a range.
inline int watched(char* memory, std::uint64_t bytes, std::uint64_t mode, std::uint64_t features) {
  const int uffd = must(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)), "userfaultfd");
  uffdio_api api{.api = UFFD_API, .features = features, .ioctls = 0};
  must(ioctl(uffd, UFFDIO_API, &api), "UFFDIO_API");
  uffdio_register request{.range = {.start = reinterpret_cast<std::uint64_t>(memory), .len = bytes}, .mode = mode, .ioctls = 0};
  must(ioctl(uffd, UFFDIO_REGISTER, &request), "UFFDIO_REGISTER");
  return uffd;
}

inline View registered(int fd, std::uint64_t bytes, std::uint64_t features) {
  char* memory = map(fd, bytes);
  const std::uint64_t mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR;
  return {memory, watched(memory, bytes, mode, features | UFFD_FEATURE_MINOR_SHMEM)};
}

struct Shared {  // one line a vCPU of what it measured, in memory its process shares with the parent
  pthread_barrier_t mapped, go, start, done;
  View views[1024];
  struct alignas(64) Line {
    std::int64_t ready_ns, end_ns;
    std::uint64_t pages, wrong;
    std::int64_t cpu_ns;
  } lines[1024];
};

/// What the arguments ask of a loop.
struct Asked {
  explicit Asked(const Args& args)
      : pages(args.number("--pages", 1 << 16)),
        vcpus(args.number("--vcpus", 1)),
        seed(args.number("--seed", 1)),
        rearm(args.number("--rearm", 0)),
        passes(std::max<std::uint64_t>(rearm, 1)),
        bytes(pages * kPage),
        processes(args.number("--processes", 0) != 0),
        one_vmm(args.number("--one-vmm", 0) != 0),
        vmms(processes && !one_vmm ? vcpus : 1),
        permuted(args.text("--order", "permutation") == "permutation"),
        cpus(args.cpus("--vcpu-cpus")) {}
  std::uint64_t pages, vcpus, seed, rearm, passes, bytes;
  bool processes, one_vmm;
  std::uint64_t vmms;
  bool permuted;
  std::vector<int> cpus;
};

/// A memfd with the contents of every page, not mapped anywhere: as in the core, when a page is continued.
inline int filled_memory(const Asked& asked) {
  const int fd = must(static_cast<int>(syscall(SYS_memfd_create, "bare", MFD_CLOEXEC)), "memfd_create");
  must(ftruncate(fd, static_cast<off_t>(asked.bytes)), "ftruncate");
  char* alias = map(fd, asked.bytes);
  fill(alias, asked.pages, asked.seed);
  must(munmap(alias, asked.bytes), "munmap");
  return fd;
}

inline Shared* shared_lines(const Asked& asked) {
  auto* shared = reinterpret_cast<Shared*>(map(-1, sizeof(Shared)));
  pthread_barrierattr_t attr;
  pthread_barrierattr_init(&attr);
  pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&shared->mapped, &attr, static_cast<unsigned>(asked.vmms + 1));
  pthread_barrier_init(&shared->go, &attr, static_cast<unsigned>(asked.vcpus + 1));
  pthread_barrier_init(&shared->start, &attr, static_cast<unsigned>(asked.vcpus));
  pthread_barrier_init(&shared->done, &attr, static_cast<unsigned>(asked.vcpus + 1));
  return shared;
}

/// One thread: every pass of a vCPU over its part of the region.
template <class Loop>
void vcpu_thread(const Asked& asked, Shared* shared, Loop* loop, std::uint64_t vcpu) {
  pin(asked.cpus, vcpu);
  const std::uint64_t seed = asked.seed, first = asked.pages * vcpu / asked.vcpus;
  const std::uint64_t count = asked.pages * (vcpu + 1) / asked.vcpus - first;
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), static_cast<std::uint32_t>(first));
  std::mt19937_64 random(seed + vcpu);
  if (asked.permuted) std::shuffle(order.begin(), order.end(), random);
  Shared::Line& line = shared->lines[vcpu];
  for (std::uint64_t pass = 0; pass < asked.passes; ++pass) {
    pthread_barrier_wait(&shared->go);
    if constexpr (requires { loop->rearm(first, count); })
      loop->rearm(first, count);
    else if (pass > 0)
      must(madvise(loop->view.memory + first * kPage, count * kPage, MADV_DONTNEED), "MADV_DONTNEED");
    std::uint64_t wrong = 0;
    const std::int64_t cpu_before = now_ns(CLOCK_THREAD_CPUTIME_ID);
    line.ready_ns = now_ns();
    pthread_barrier_wait(&shared->start);
    if constexpr (requires { loop->walk(vcpu, order, seed); }) {
      wrong = loop->walk(vcpu, order, seed);
    } else {
      for (const std::uint32_t page : order) {
        const std::uint64_t base = base_of(seed, page), word = (base >> 40) & (kWords - 1);
        wrong += loop->touch(page, word) != base + word * kStride;
      }
    }
    line = {line.ready_ns, now_ns(), count, wrong, now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_before};
    pthread_barrier_wait(&shared->done);
  }
}

/// A process a VMM, each of which ends with this one.
template <class Loop>
void start_processes(const Args& args, const Asked& asked, Shared* shared, int fd) {
  std::signal(SIGCHLD, [](int) { _exit(1); });  // a child ends by itself only when it failed
  std::vector<pid_t> children(asked.vmms);
  for (std::uint64_t vmm = 0; vmm < asked.vmms; ++vmm)
    if ((children[vmm] = must(fork(), "fork")) == 0) {
      std::signal(SIGCHLD, SIG_DFL);
      must(prctl(PR_SET_PDEATHSIG, SIGKILL), "PR_SET_PDEATHSIG");
      Loop loop(fd, asked.bytes, args, vmm);
      shared->views[vmm] = loop.view;
      pthread_barrier_wait(&shared->mapped);
      for (std::uint64_t vcpu = asked.one_vmm ? 0 : vmm; vcpu < (asked.one_vmm ? asked.vcpus : vmm + 1); ++vcpu)
        std::thread(vcpu_thread<Loop>, asked, shared, &loop, vcpu).detach();
      while (true) pause();
    }
  pthread_barrier_wait(&shared->mapped);
  if constexpr (requires { Loop::start_readers(View{}, args, 0); })
    for (std::uint64_t vmm = 0; args.number("--readers-apart", 0) != 0 && vmm < asked.vmms; ++vmm) {
      const int child = must(static_cast<int>(syscall(SYS_pidfd_open, children[vmm], 0)), "pidfd_open");
      View view = shared->views[vmm];
      view.uffd = must(static_cast<int>(syscall(SYS_pidfd_getfd, child, view.uffd, 0)), "pidfd_getfd");
      Loop::start_readers(view, args, vmm);
    }
}

/// The line of a pass: from the last vCPU's start to the last one's end.
inline void print_pass(const Asked& asked, const Shared& shared) {
  std::int64_t start = 0, end = 0, cpu_ns = 0;
  std::uint64_t touched = 0, wrong = 0;
  for (std::uint64_t i = 0; i < asked.vcpus; ++i) {
    start = std::max(start, shared.lines[i].ready_ns);
    end = std::max(end, shared.lines[i].end_ns);
    touched += shared.lines[i].pages;
    wrong += shared.lines[i].wrong;
    cpu_ns += shared.lines[i].cpu_ns;
  }
  const double seconds = static_cast<double>(end - start) * 1e-9;
  std::printf("{\"pages\": %llu, \"seconds\": %.9f, \"pages_per_s\": %.1f, \"cpu_ns_per_page\": %.2f, \"wrong_words\": %llu}\n",
              static_cast<unsigned long long>(touched), seconds, static_cast<double>(touched) / seconds,
              static_cast<double>(cpu_ns) / static_cast<double>(touched), static_cast<unsigned long long>(wrong));
  std::fflush(stdout);
}

/// Runs the passes of a loop: `Loop(fd, bytes, args, vmm)` maps and registers, `touch(page, word)` reads a word of a page, or
/// `walk(vcpu, order, seed)` does a whole pass. `rearm(first, count)`, where there is one, makes pages ready for each pass.
template <class Loop>
int run(int argc, char** argv) {
  const Args args(argc, argv);
  const Asked asked(args);
  const int fd = filled_memory(asked);
  Shared* shared = shared_lines(asked);
  if (asked.processes) {
    start_processes<Loop>(args, asked, shared, fd);
  } else {
    auto* loop = new Loop(fd, asked.bytes, args, 0);  // lives as long as its threads: until _Exit
    for (std::uint64_t vcpu = 0; vcpu < asked.vcpus; ++vcpu) std::thread(vcpu_thread<Loop>, asked, shared, loop, vcpu).detach();
  }
  for (std::uint64_t pass = 0; pass < asked.passes; ++pass) {
    if (asked.rearm > 0)
      for (int c = std::getchar(); c != '\n'; c = std::getchar())
        if (c == EOF) std::_Exit(0);  // the process that drove this one is gone
    pthread_barrier_wait(&shared->go);
    pthread_barrier_wait(&shared->done);
    print_pass(asked, *shared);
  }
  std::_Exit(0);
}

}  // namespace bare
