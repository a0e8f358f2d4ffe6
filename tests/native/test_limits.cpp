// Limits of memory cgroups, huge pages and threads. Each ends the run, or refuses the peer, by name.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "check.hpp"
#include "kernel/error.hpp"
#include "resolve/fill.hpp"
#include "server/page_server.hpp"
#include "source/source_server.hpp"

using namespace uffd;

namespace {

/// A memory cgroup of version 1 or 2 with a limit, removed at the end. Empty `path` where the machine has none for us.
struct MemoryCgroup {
  std::string path;

  explicit MemoryCgroup(std::uint64_t bytes) {
    for (const auto& [root, limit] :
         {std::pair{"/sys/fs/cgroup/memory/", "/memory.limit_in_bytes"}, {"/sys/fs/cgroup/", "/memory.max"}}) {
      const std::string made = std::string(root) + "uffd-loadgen-test-" + std::to_string(::getpid());
      if (::mkdir(made.c_str(), 0755) != 0) continue;
      if (write(made + limit, std::to_string(bytes))) {
        path = made;
        write(path + "/memory.oom_control", "1");  // version 1: no OOM killer
        // No swap either: another test may have put some on the host, and a full group would go there.
        write(path + "/memory.swappiness", "0");
        write(path + "/memory.swap.max", "0");
        return;
      }
      ::rmdir(made.c_str());
    }
  }
  ~MemoryCgroup() {
    for (int tries = 0; !path.empty() && ::rmdir(path.c_str()) != 0 && tries < 1000; ++tries) ::usleep(1000);
  }
  static bool write(const std::string& file, const std::string& text) {
    std::ofstream out(file);
    return out.is_open() && (out << text).flush().good();
  }
};

/// No test of Python's changes the host meanwhile: the lock of `host_alone` in tests/conftest.py. Nothing where the tests run by
/// themselves.
struct HostAlone {
  Descriptor folder;

  HostAlone() {
    const char* const name = std::getenv("NATIVE_TEST_HOST_LOCK");
    if (name == nullptr) return;
    folder = Descriptor(::open(name, O_RDONLY | O_CLOEXEC));
    CHECK(folder.valid());
    const unsigned left = ::alarm(0);  // of the test's own time
    CHECK_EQUAL(::flock(folder.get(), LOCK_EX), 0);
    ::alarm(left);
  }
};

/// Reads a byte of each page. A sanitizer would note each in memory of its own, which is of the group too: a process that finds
/// its group full at a fault of its own, and not at one that a page server resolves, sleeps until it is ended.
[[gnu::noinline, gnu::no_sanitize_thread, gnu::no_sanitize_address]] void touch_each_page(const std::byte* memory,
                                                                                          std::uint64_t bytes) {
  for (std::uint64_t at = 0; at < bytes; at += kBasePageBytes) *reinterpret_cast<const volatile std::byte*>(memory + at);
}

/// A process that registers anonymous memory with a userfaultfd of its own and touches all of it, inside a memory cgroup.
struct Toucher {
  Mapping memory;
  pid_t pid = -1;
  Descriptor uffd;

  Toucher(const MemoryCgroup& cgroup, std::uint64_t bytes) : memory(Mapping::anonymous(bytes, kBasePageBytes)) {
    std::array<int, 2> made{};
    CHECK_EQUAL(::pipe(made.data()), 0);
    pid = ::fork();
    if (pid == 0) {
      MemoryCgroup::write("/proc/self/oom_score_adj", "-1000");
      MemoryCgroup::write(cgroup.path + "/cgroup.procs", std::to_string(::getpid()));
      Userfaultfd own(0);
      own.register_range(memory.address(), memory.bytes(), UFFDIO_REGISTER_MODE_MISSING);
      const int fd = own.fd();
      (void)!::write(made[1], &fd, sizeof fd);
      touch_each_page(memory.data(), memory.bytes());
      ::pause();
    }
    int fd = -1;
    CHECK_EQUAL(::read(made[0], &fd, sizeof fd), static_cast<ssize_t>(sizeof fd));
    ::close(made[0]);
    ::close(made[1]);
    const Descriptor process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    uffd = Descriptor(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
    CHECK(uffd.valid());
  }
  ~Toucher() {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
};

template <typename Condition>
bool within_seconds(double seconds, const Condition& condition) {
  for (int i = 0; i < seconds * 1000; ++i) {
    if (condition()) return true;
    ::usleep(1000);
  }
  return condition();
}

/// Runs `body` in a child; the text it returns.
template <typename Body>
std::string in_child(const Body& body) {
  std::array<int, 2> ends{};
  CHECK_EQUAL(::pipe(ends.data()), 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    std::string text;
    try {
      text = body();
    } catch (const std::exception& error) {
      text = error.what();
    }
    (void)!::write(ends[1], text.data(), text.size());
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string text(4096, '\0');
  const ssize_t got = ::read(ends[0], text.data(), text.size());
  ::close(ends[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  CHECK_EQUAL(status, 0);
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  return text;
}

/// No mapping of more than `bytes` more from now on: thread stacks are 8 MiB.
void limit_address_space(std::uint64_t bytes) {
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlimit limit{pages * kBasePageBytes + bytes, RLIM_INFINITY};
  CHECK_EQUAL(::setrlimit(RLIMIT_AS, &limit), 0);
}

/// No thread more from now on: the stacks of threads that have ended are kept for the next ones, and are too small.
void refuse_threads(std::uint64_t bytes) {
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, std::size_t{1} << 30);
  CHECK_EQUAL(::pthread_setattr_default_np(&attributes), 0);
  limit_address_space(bytes);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kLimitsWork = false;  // sanitizers map memory of their own
#else
constexpr bool kLimitsWork = true;
#endif

bool names_the_limit(const std::string& text, const std::string& what) {
  return text.find(what) == 0 && text.find("could not be started: raise the limit of threads") != std::string::npos &&
         text.find("errno") != std::string::npos;
}

}  // namespace

TEST_THAT_FORKS("a VMM process whose memory cgroup is full ends the run by name: the call, the page, what to do") {
  const MemoryCgroup cgroup(16 << 20);
  if (cgroup.path.empty()) return;
  const std::uint64_t bytes = 64 << 20;
  const Toucher toucher(cgroup, bytes);
  const Guest guest({.memory = MemoryType::anon, .region_bytes = bytes});
  PageServer server(guest, {});
  server.add(toucher.uffd.get(), {{toucher.memory.address(), bytes, 0, kBasePageBytes}}, -1, -1, -1);
  std::thread serving([&] { server.serve(); });
  const bool stopped = within_seconds(30, [&] { return guest.stopping(); });
  server.stop();
  serving.join();
  CHECK(stopped);
  const std::string reason = guest.stop_reason();
  CHECK_EQUAL(reason.find("UFFDIO_COPY of page "), 0u);
  CHECK(reason.find("Cannot allocate memory (errno 12)") != std::string::npos);
  CHECK(reason.find("the VMM process's memory cgroup or the host is out of memory") != std::string::npos);
}

TEST("a huge page that was punched and is taken by another process ends the run by name, and raises no SIGBUS") {
  constexpr std::uint64_t kHuge = 2 << 20;
  const HostAlone alone;
  const char* const knob = "/proc/sys/vm/nr_hugepages";
  std::uint64_t before = 0, now = 0;
  std::ifstream(knob) >> before;
  const struct Restore {
    const char* knob;
    std::uint64_t pages;
    ~Restore() { MemoryCgroup::write(knob, std::to_string(pages)); }
  } restore{knob, before};
  MemoryCgroup::write(knob, std::to_string(before + 4));
  std::ifstream(knob) >> now;
  if (now != before + 4) return;  // not ours to change, or no memory for it
  const GuestConfig config{.memory = MemoryType::hugetlb, .region_bytes = 4 * kHuge, .page_bytes = kHuge, .drops = true};
  const Guest guest(config);
  const Mapping alias = Mapping::shared(guest.region_fd(), config.region_bytes);
  Source source(guest, alias.data(), {});
  for (std::uint64_t page = 0; page < 4; ++page) {
    CHECK(guest.claim_fetch(page));
    source.put(page);
  }
  CHECK(guest.complete(3));
  CHECK_EQUAL(::fallocate(guest.region_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * kHuge, kHuge), 0);
  struct Taken {
    std::vector<void*> pages;
    ~Taken() {
      for (void* page : pages) ::munmap(page, kHuge);
    }
  } taken;  // every free huge page of the machine
  constexpr int how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE;
  for (void* data; (data = ::mmap(nullptr, kHuge, PROT_READ | PROT_WRITE, how, -1, 0)) != MAP_FAILED;)
    taken.pages.push_back(data);
  CHECK(!taken.pages.empty());
  source.lost(3);
  CHECK(!guest.complete(3));
  source.put(3);
  CHECK(!guest.complete(3));
  CHECK_EQUAL(guest.stop_reason().find("MADV_POPULATE_WRITE for the contents of page 3: "), 0u);
  CHECK(guest.stop_reason().find("no huge page is free for it; raise vm.nr_hugepages") != std::string::npos);
}

TEST_THAT_FORKS("a reader that cannot be started ends the run by name, and the readers that run are joined") {
  if (!kLimitsWork) return;
  const std::string text = in_child([] {
    const Guest guest({.region_bytes = 16 * kBasePageBytes});
    const Mapping region = Mapping::shared(guest.region_fd(), 16 * kBasePageBytes);
    Userfaultfd uffd(UFFD_FEATURE_MISSING_SHMEM);
    uffd.register_range(region.address(), region.bytes(), UFFDIO_REGISTER_MODE_MISSING);
    PageServer server(guest, {.readers = 64});
    server.add(uffd.fd(), {{region.address(), 16 * kBasePageBytes, 0, kBasePageBytes}}, -1, -1, -1);
    limit_address_space(40 << 20);
    try {
      server.serve();
    } catch (const KernelError& error) {
      return guest.stop_reason() == error.what() ? std::string(error.what()) : "another reason: " + guest.stop_reason();
    }
    return std::string("it served");
  });
  CHECK(names_the_limit(text, "page server: reader "));
}

TEST_THAT_FORKS("a guest whose filling threads cannot be started is refused by name") {
  if (!kLimitsWork || std::thread::hardware_concurrency() < 2) return;
  const std::string text = in_child([] {
    const Guest guest({.region_bytes = 16384 * kBasePageBytes});
    refuse_threads(72 << 20);  // room for the alias
    fill(guest, std::vector<std::uint8_t>(guest.pages(), static_cast<std::uint8_t>(Kind::minor)));
    return std::string("it filled");
  });
  CHECK(names_the_limit(text, "the guest is not filled: its thread "));
}

TEST_THAT_FORKS("a source that has no thread for a connection refuses the peer by name and serves on") {
  if (!kLimitsWork) return;
  const std::string text = in_child([] {
    SourceServer source({.region_bytes = 16 * kBasePageBytes});
    refuse_threads(2 << 20);
    const tcp::Address address = tcp::resolve("127.0.0.1", source.port(), false);
    const Descriptor never(::eventfd(0, EFD_CLOEXEC));
    const Descriptor peer = tcp::connect_to(address, never.get(), Clock::monotonic_ns() + 5'000'000'000);
    within_seconds(5, [&] { return source.served().refused != 0; });
    std::array<char, 512> refusal{};
    const ssize_t got = ::recv(peer.get(), refusal.data(), refusal.size(), 0);
    const std::string words(refusal.data() + sizeof(wire::Header), static_cast<std::size_t>(got) - sizeof(wire::Header));
    return words == source.served().last_refusal ? words : "the peer was sent: " + words;
  });
  CHECK(names_the_limit(text, "a thread for the connection "));
}

TEST_THAT_FORKS("a remote source whose threads cannot be started ends the run by name") {
  if (!kLimitsWork) return;
  const std::string text = in_child([] {
    SourceServer source({.region_bytes = 16 * kBasePageBytes, .seed = 0});
    const Guest guest({.region_bytes = 16 * kBasePageBytes});
    PageServerConfig config;
    config.source.name = "remote";
    config.source.remote = {.host = "127.0.0.1", .port = source.port(), .connections = 16};
    PageServer server(guest, config);
    refuse_threads(20 << 20);
    server.serve();
    return std::string("it served");
  });
  CHECK(names_the_limit(text, "the source at 127.0.0.1:"));
}

TEST("a kernel whose base pages are not of 4 KiB is refused by name") {
  CHECK_EQUAL(refuse_base_pages(4096), "");
  CHECK(refuse_base_pages(65536).find("base pages of 64 KiB, and only those of 4 KiB are supported") != std::string::npos);
  std::string said;
  try {
    const Guest guest(GuestConfig{.region_bytes = 1 << 20});
  } catch (const ConfigError& error) {
    said = error.what();
  }
  CHECK_EQUAL(said, refuse_base_pages(static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))));
}
