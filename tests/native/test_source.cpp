// How contents reach the memory that every mapping of a guest shares.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <thread>

#include "check.hpp"
#include "kernel/userfaultfd.hpp"
#include "source/source.hpp"

using namespace uffd;

namespace {

/// Reads words of memory that another thread may take away meanwhile.
struct WordReader {
  int ends[2] = {};
  WordReader() { CHECK_EQUAL(::pipe(ends), 0); }
  ~WordReader() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  /// False: it was not there.
  bool read(const std::byte* at, std::uint64_t& word) const {
    return ::write(ends[1], at, sizeof word) == sizeof word && ::read(ends[0], &word, sizeof word) == sizeof word;
  }
};

}  // namespace

TEST("a page whose contents are brought again after a drop is mapped whole or not at all, by a resolve that asks nothing") {
  const Guest guest({.region_bytes = kBasePageBytes, .drops = true});
  const Mapping alias = Mapping::shared(guest.region_fd(), kBasePageBytes);
  const Mapping mapping = Mapping::shared(guest.region_fd(), kBasePageBytes);
  Userfaultfd uffd(UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM);
  uffd.register_range(mapping.address(), kBasePageBytes, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR);
  Source source(guest, alias.data(), {});
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> looks{0};
  std::thread writer([&] {
    for (int times = 0; times < 200; ++times) {
      if (guest.claim_fetch(0)) source.put(0);
      for (const std::uint64_t before = looks.load(); looks.load() < before + 2;) sched_yield();
      ::fallocate(guest.region_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kBasePageBytes);
      source.lost(0);
    }
    over.store(true);
  });
  const std::uint64_t last = kBasePageBytes / 8 - 1, expected = Contents::word(guest.contents().base(0), last);
  const WordReader reader;
  std::uint64_t read = 0, wrong = 0;
  for (; !over.load(); looks.fetch_add(1)) {
    std::uint64_t word = 0;
    if (uffd.resume(mapping.address(), kBasePageBytes, false).error == 0 && reader.read(mapping.data() + last * 8, word)) {
      ++read;
      wrong += word != expected;
    }
    ::madvise(mapping.data(), kBasePageBytes, MADV_DONTNEED);
  }
  writer.join();
  CHECK(read > 0);
  CHECK_EQUAL(wrong, 0u);
}

TEST("contents are lost when the page cache has them no more, and not before") {
  const Guest guest({.region_bytes = 2 * kBasePageBytes, .drops = true});
  const Mapping alias = Mapping::shared(guest.region_fd(), 2 * kBasePageBytes);
  Source source(guest, alias.data(), {});
  for (const std::uint64_t page : {0u, 1u}) {
    CHECK(guest.claim_fetch(page));
    source.put(page);
  }
  ::fallocate(guest.region_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kBasePageBytes);
  source.lost(0);
  source.lost(1);
  CHECK(!guest.complete(0));
  CHECK(guest.claim_fetch(0));
  CHECK(guest.complete(1));
  CHECK(!guest.claim_fetch(1));
}

TEST("contents whose buffer is not in memory are no page of zeros meanwhile") {
  const Guest guest({.region_bytes = kBasePageBytes, .drops = true});
  const Mapping mapping = Mapping::shared(guest.region_fd(), kBasePageBytes);
  const Mapping buffer = Mapping::anonymous(kBasePageBytes, kBasePageBytes);
  const Userfaultfd away(0);
  away.register_range(buffer.address(), kBasePageBytes, UFFDIO_REGISTER_MODE_MISSING);
  bool written = false;
  std::thread writer([&] { written = write_at_once(guest, 0, buffer.data()); });
  pollfd fault{away.fd(), POLLIN, 0};
  const bool waits = ::poll(&fault, 1, 10'000) == 1;
  unsigned char cached = 0;
  const bool seen = ::mincore(mapping.data(), kBasePageBytes, &cached) == 0;
  std::vector<std::byte> contents(kBasePageBytes);
  guest.contents().fill(0, contents.data());
  const Outcome back = away.copy(buffer.address(), reinterpret_cast<std::uint64_t>(contents.data()), kBasePageBytes, true);
  if (back.error != 0) away.unregister_range(buffer.address(), kBasePageBytes);
  writer.join();
  CHECK(waits && seen && back.error == 0 && written);
  CHECK_EQUAL(cached & 1, 0);
  CHECK(std::equal(contents.begin(), contents.end(), mapping.data()));
}
