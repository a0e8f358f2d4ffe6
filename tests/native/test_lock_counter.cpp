#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cerrno>

#include "check.hpp"
#include "kernel/lock_counter.hpp"
#include "kernel/vocabulary.hpp"

using namespace uffd;

namespace {

constexpr std::uint64_t kTimes = 50;

// In a child of its own mount namespace, where mounting tracefs changes nothing outside. 0: as it should be; 1: not;
// 2: this process may not, which root always may.
int count_in_child() {
  if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 2;
  if (::mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, nullptr) != 0 && errno != EBUSY) return 2;
  LockCounter counter = LockCounter::of_this_thread();
  if (!counter.valid()) return 2;
  auto* memory =
      static_cast<std::byte*>(::mmap(nullptr, kTimes * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  counter.begin();
  for (std::uint64_t i = 0; i < kTimes; ++i)
    counter.during(LockCause::populate, [&] { return ::madvise(memory + i * 4096, 4096, MADV_POPULATE_WRITE); });
  counter.end();
  const LockReads reads = counter.reads();
  return reads[static_cast<std::size_t>(LockCause::populate)] == kTimes &&
                 reads[static_cast<std::size_t>(LockCause::probe)] == 0 &&
                 reads[static_cast<std::size_t>(LockCause::fault)] < kTimes
             ? 0
             : 1;
}

}  // namespace

TEST("a thread counts the mmap_lock it takes for reading, by what it was doing") {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(count_in_child());
  int status = 0;
  CHECK_EQUAL(::waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0 || (WEXITSTATUS(status) == 2 && ::geteuid() != 0));
}

TEST("without tracefs nothing is counted, and what is to be done is done") {
  LockCounter counter;
  CHECK(!counter.valid());
  counter.begin();
  CHECK_EQUAL(counter.during(LockCause::resolve, [] { return 42; }), 42);
  counter.end();
  CHECK_EQUAL(counter.reads()[static_cast<std::size_t>(LockCause::resolve)], 0u);
}
