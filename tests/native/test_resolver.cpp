// The traps of KERNEL.md that a resolve meets, on the real kernel.
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "check.hpp"
#include "guest/guest.hpp"
#include "resolve/resolver.hpp"
#include "whole_guest.hpp"

using namespace uffd;

namespace {

struct Region {
  Descriptor memfd = make_memfd("test", 16 * kBasePageBytes, false);
  Mapping alias = Mapping::shared(memfd.get(), 16 * kBasePageBytes);
  Mapping mapping = Mapping::shared(memfd.get(), 16 * kBasePageBytes);
  Userfaultfd uffd{UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM};
  std::atomic<std::uint8_t> bytes[16] = {};
  Counters counters;
  Resolver resolver;

  explicit Region(std::uint32_t around = 1, bool drops = false)
      : resolver({{&uffd, mapping.address(), 0, 16}}, PageRecord(bytes), {.memory = MemoryType::shmem, .drops = drops}, around) {
    std::memset(alias.data(), 1, 16 * kBasePageBytes);
    uffd.register_range(mapping.address(), 16 * kBasePageBytes, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR);
  }
  Installed install(const PageRun& run, std::uint64_t wanted) { return resolver.install(run, {.wanted = wanted}, counters); }
  Installed install(std::uint64_t page) { return install(resolver.claim(page, PageRecord::vcpu_claim()), page); }
  Installed again(std::uint64_t page) {
    return resolver.install({page, 1}, {.wanted = page, .wake = true, .known = Known::resolved_before}, counters);
  }
  void punch(std::uint64_t page) {
    CHECK_EQUAL(::fallocate(memfd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(page * kBasePageBytes),
                            kBasePageBytes),
                0);
  }
  void map_behind_the_record(std::uint64_t page) {
    CHECK_EQUAL(uffd.resume(mapping.address() + page * kBasePageBytes, kBasePageBytes, false).error, 0);
  }
};

}  // namespace

TEST("a block whose second page is mapped already is finished all the same, and counted as partial and EEXIST") {
  Region region(8);
  region.map_behind_the_record(1);
  const PageRun run = region.resolver.claim(0, PageRecord::vcpu_claim());
  CHECK_EQUAL(run.count, 8u);
  const Installed installed = region.install(run, 5);
  CHECK(installed.end == Installed::End::mapped);
  CHECK_EQUAL(installed.pages, 7u);
  CHECK(installed.lost);
  CHECK(installed.wanted);
  CHECK_EQUAL(region.counters[Counter::partial], 1u);
  CHECK_EQUAL(region.counters[Counter::eexist], 1u);
  for (std::uint64_t page = 0; page < 8; ++page) CHECK(region.resolver.record().state(page) == PageState::resolved);
}

TEST("what a block's install maps or finds mapped is in the emulated stage-2 table, but for a page that is about to be dropped") {
  Region region(16);
  for (const std::uint64_t page : {3u, 12u}) region.map_behind_the_record(page);
  CHECK(region.resolver.record().resolve_unasked(12));
  CHECK(region.resolver.record().discard(12));
  const PageRun run = region.resolver.claim(0, PageRecord::vcpu_claim());
  CHECK_EQUAL(run.count, 16u);
  const Installed installed = region.resolver.install(run, {.wanted = 0, .enter_stage2 = true}, region.counters);
  CHECK_EQUAL(installed.pages, 14u);
  for (std::uint64_t page = 0; page < 16; ++page) CHECK_EQUAL(int{region.bytes[page]}, page == 12 ? 0x04 : 0x82);
}

TEST("a block whose first page is mapped already is skipped over, not given up") {
  Region region(4);
  region.map_behind_the_record(4);
  const Installed installed = region.install(4);
  CHECK_EQUAL(installed.pages, 3u);
  CHECK(!installed.wanted);
  CHECK_EQUAL(region.counters[Counter::eexist], 1u);
}

TEST("a hole ends the run by name where nothing drops pages, and is fetched again where something does") {
  for (const bool drops : {false, true}) {
    Region region(1, drops);
    region.punch(3);
    const Installed installed = region.install(3);
    CHECK(installed.end == (drops ? Installed::End::gone : Installed::End::refused));
    CHECK_EQUAL(installed.settled, 0u);
    CHECK_EQUAL(region.counters[Counter::efault], 1u);
    CHECK(region.resolver.record().state(3) == PageState::unresolved);
    const std::string text = region.resolver.refusal({3, 1}, installed);
    CHECK(text.find("UFFDIO_CONTINUE of page 3: Bad address (errno 14) at 0x") == 0);
  }
}

TEST("a page that was resolved before and whose contents are gone becomes discarded; without drops it ends the run") {
  for (const bool drops : {false, true}) {
    Region region(1, drops);
    region.resolver.record().resolve_unasked(3);
    region.punch(3);
    CHECK(region.again(3).end == (drops ? Installed::End::gone : Installed::End::refused));
    CHECK(region.resolver.record().state(3) == (drops ? PageState::discarded : PageState::resolved));
  }
}

TEST("a mapped page that was discarded is about to be dropped: the EEXIST of its resolve leaves it discarded") {
  Region region;
  region.map_behind_the_record(3);
  CHECK(region.resolver.record().resolve_unasked(3));
  CHECK(region.resolver.record().discard(3));
  CHECK(region.install(3).lost);
  CHECK(region.resolver.record().state(3) == PageState::discarded);
}

TEST("a range that is not registered is refused, with what it is") {
  Region region;
  CHECK_EQUAL(region.uffd.unregister_range(region.mapping.address(), 16 * kBasePageBytes).error, 0);
  const Installed unregistered = region.install(3);
  CHECK(unregistered.end == Installed::End::refused);
  CHECK_EQUAL(unregistered.error, ENOENT);
  CHECK(region.resolver.refusal({3, 1}, unregistered).find("the range is not registered with this userfaultfd") !=
        std::string::npos);
}

TEST_THAT_FORKS("a process that has ended is no refusal: its pages are given back, and nothing is asked of them any more") {
  int ends[2];
  CHECK_EQUAL(::pipe(ends), 0);
  const pid_t pid = ::fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    const Mapping mapping = Mapping::anonymous(16 * kBasePageBytes, kBasePageBytes);
    const Userfaultfd uffd(0);
    uffd.register_range(mapping.address(), mapping.bytes(), UFFDIO_REGISTER_MODE_MISSING);
    const std::uint64_t found[2] = {mapping.address(), static_cast<std::uint64_t>(uffd.fd())};
    (void)!::write(ends[1], found, sizeof found);
    ::pause();
  }
  std::uint64_t found[2] = {};
  CHECK_EQUAL(::read(ends[0], found, sizeof found), static_cast<ssize_t>(sizeof found));
  const Descriptor process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  const Userfaultfd uffd(Descriptor(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), static_cast<int>(found[1]), 0))));
  ::kill(pid, SIGKILL);
  CHECK_EQUAL(::waitpid(pid, nullptr, 0), pid);
  ::close(ends[0]);
  ::close(ends[1]);
  std::atomic<std::uint8_t> bytes[16] = {};
  const Resolver resolver({{&uffd, found[0], 0, 16}}, PageRecord(bytes), {.memory = MemoryType::anon}, 4);
  const std::vector<std::byte> contents(4 * kBasePageBytes);
  Counters counters;
  const Installed installed =
      resolver.install(resolver.claim(1, PageRecord::vcpu_claim()), {.wanted = 1, .from = contents.data()}, counters);
  CHECK(installed.end == Installed::End::vanished);
  CHECK_EQUAL(counters[Counter::esrch], 1u);
  for (std::uint64_t page = 0; page < 4; ++page) CHECK(resolver.record().state(page) == PageState::unresolved);
}

TEST("a page that goes by EEXIST alone is resolved in the record, whether this call mapped it or another") {
  Region region;
  region.map_behind_the_record(6);
  for (const std::uint64_t page : {5u, 6u}) {
    const Installed installed = region.resolver.install({page, 1}, {.wanted = page, .known = Known::not_asked}, region.counters);
    CHECK(installed.end == Installed::End::mapped);
    CHECK_EQUAL(installed.lost, page == 6);
    CHECK_EQUAL(installed.wanted, page == 5);
    CHECK(region.resolver.record().state(page) == PageState::resolved);
  }
}

TEST("each page is looked up in the shard that covers it, whatever order the shards come in") {
  Region region;
  std::vector<Shard> shards;
  for (const std::uint64_t first : {8u, 0u, 12u, 4u})
    shards.push_back({&region.uffd, region.mapping.address() + first * kBasePageBytes, first, 4});
  const Resolver sharded(shards, region.resolver.record(), {.memory = MemoryType::shmem}, 8);
  for (std::uint64_t page = 0; page < 16; ++page) CHECK(sharded.covers(page));
  CHECK(!sharded.covers(16));
  for (const std::uint64_t page : {5u, 0u, 15u, 9u}) {
    const PageRun run = sharded.claim(page, PageRecord::vcpu_claim());
    CHECK_EQUAL(run.first, page / 4 * 4);  // blocks end at a shard's edge
    CHECK_EQUAL(run.count, 4u);
    CHECK_EQUAL(sharded.install(run, {.wanted = page}, region.counters).pages, 4u);
  }
  for (std::uint64_t page = 0; page < 16; ++page) CHECK_EQUAL(region.mapping.data()[page * kBasePageBytes] == std::byte{1}, true);
}

TEST("each page is looked up in the shard that covers it where a foreign VMM's shards are of different sizes") {
  Region region;
  std::vector<Shard> shards;
  for (const auto& [first, pages] : {std::pair{0u, 10u}, {10u, 1u}, {11u, 1u}, {12u, 4u}})
    shards.push_back({&region.uffd, region.mapping.address() + first * kBasePageBytes, first, pages});
  const Resolver sharded(shards, region.resolver.record(), {.memory = MemoryType::shmem}, 16);
  for (std::uint64_t page = 0; page < 16; ++page) CHECK(sharded.covers(page));
  const PageRun run = sharded.claim(9, PageRecord::vcpu_claim());
  CHECK_EQUAL(run.first, 0u);
  CHECK_EQUAL(run.count, 10u);
}

TEST("a block of anonymous pages whose second one is mapped already gets each page's own contents") {
  const Mapping memory = Mapping::anonymous(4 * kBasePageBytes, kBasePageBytes);
  Userfaultfd uffd(0);
  uffd.register_range(memory.address(), memory.bytes(), UFFDIO_REGISTER_MODE_MISSING);
  std::atomic<std::uint8_t> bytes[4] = {};
  const Resolver resolver({{&uffd, memory.address(), 0, 4}}, PageRecord(bytes), {.memory = MemoryType::anon}, 4);
  std::vector<std::byte> contents(4 * kBasePageBytes);
  for (std::size_t page = 0; page < 4; ++page)
    std::memset(contents.data() + page * kBasePageBytes, static_cast<int>(page + 1), kBasePageBytes);
  const auto from = reinterpret_cast<std::uint64_t>(contents.data());
  CHECK_EQUAL(uffd.copy(memory.address() + kBasePageBytes, from + kBasePageBytes, kBasePageBytes, false).error, 0);
  Counters counters;
  const Installed installed =
      resolver.install(resolver.claim(0, PageRecord::vcpu_claim()), {.wanted = 0, .from = contents.data()}, counters);
  CHECK_EQUAL(installed.pages, 3u);
  for (std::size_t page = 0; page < 4; ++page)
    CHECK(memory.data()[page * kBasePageBytes + 17] == static_cast<std::byte>(page + 1));
}

TEST("fault-around takes only free pages, inside the aligned block") {
  Region region(8);
  CHECK(region.resolver.record().claim(10, PageRecord::reader_claim(0)));
  const PageRun run = region.resolver.claim(12, PageRecord::vcpu_claim());
  CHECK_EQUAL(run.first, 11u);
  CHECK_EQUAL(run.count, 5u);
  CHECK_EQUAL(region.resolver.claim(12, PageRecord::vcpu_claim()).count, 0u);
}

TEST("a page can be claimed by one only, and a reclaimed page is installed again") {
  Region region;
  CHECK(region.resolver.record().claim(2, PageRecord::vcpu_claim()));
  CHECK(!region.resolver.record().claim(2, PageRecord::reader_claim(1)));
  region.resolver.record().resolve_unasked(2);
  CHECK_EQUAL(region.again(2).pages, 1u);
  CHECK(region.again(2).lost);
  CHECK_EQUAL(region.counters[Counter::wakes], 1u);
}

TEST("a poisoned page is refused by CONTINUE only through the record: the kernel would un-poison it") {
  needs_poison();
  Region region;
  CHECK(region.resolver.record().claim(5, PageRecord::vcpu_claim()));
  CHECK_EQUAL(region.resolver.poison(5, false, region.counters).pages, 1u);
  CHECK(region.resolver.record().state(5) == PageState::poisoned);
  CHECK_EQUAL(region.counters[Counter::pages_poisoned], 1u);
  CHECK_EQUAL(region.resolver.claim(5, PageRecord::vcpu_claim()).count, 0u);
  CHECK_EQUAL(region.uffd.resume(region.mapping.address() + 5 * kBasePageBytes, kBasePageBytes, false).error,
              0);  // probed on 6.18
}
