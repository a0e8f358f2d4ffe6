// The traps of KERNEL.md that a resolve meets, on the real kernel.
#include <cstring>

#include "check.hpp"
#include "guest/guest.hpp"
#include "resolve/resolver.hpp"

using namespace uffd;

namespace {

constexpr std::uint64_t kPage = kBasePageBytes;

struct Region {
  Descriptor memfd = make_memfd("test", 16 * kPage, false);
  Mapping alias = Mapping::shared(memfd.get(), 16 * kPage);
  Mapping mapping = Mapping::shared(memfd.get(), 16 * kPage);
  Userfaultfd uffd{UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM};
  std::atomic<std::uint8_t> bytes[16] = {};
  Counters counters;
  Resolver resolver;

  explicit Region(std::uint32_t around = 1)
      : resolver({{&uffd, mapping.address(), 0, 16}}, PageRecord(bytes), MemoryType::shmem, kPage, around) {
    std::memset(alias.data(), 1, 16 * kPage);
    uffd.register_range(mapping.address(), 16 * kPage, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR);
  }
  void map_behind_the_record(std::uint64_t page) {
    CHECK_EQUAL(uffd.resume(mapping.address() + page * kPage, kPage, false).error, 0);
  }
};

}  // namespace

TEST("a block whose second page is mapped already is finished all the same, and counted as partial and EEXIST") {
  Region region(8);
  region.map_behind_the_record(1);
  const PageRun run = region.resolver.claim(0, PageRecord::vcpu_claim());
  CHECK_EQUAL(run.count, 8u);
  const auto installed = region.resolver.install(run, nullptr, false, region.counters);
  CHECK_EQUAL(installed.error, 0);
  CHECK_EQUAL(installed.pages, 7u);
  CHECK(installed.lost);
  CHECK_EQUAL(region.counters[Counter::partial], 1u);
  CHECK_EQUAL(region.counters[Counter::eexist], 1u);
  for (std::uint64_t page = 0; page < 8; ++page) CHECK(region.resolver.record().state(page) == PageState::resolved);
}

TEST("a block whose first page is mapped already is skipped over, not given up") {
  Region region(4);
  region.map_behind_the_record(4);
  const auto installed =
      region.resolver.install(region.resolver.claim(4, PageRecord::vcpu_claim()), nullptr, false, region.counters);
  CHECK_EQUAL(installed.pages, 3u);
  CHECK_EQUAL(region.counters[Counter::eexist], 1u);
}

TEST("a hole says EFAULT, and its page goes back to unresolved") {
  Region region;
  CHECK_EQUAL(::fallocate(region.memfd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * kPage, kPage), 0);
  const auto installed =
      region.resolver.install(region.resolver.claim(3, PageRecord::vcpu_claim()), nullptr, false, region.counters);
  CHECK_EQUAL(installed.error, EFAULT);
  CHECK_EQUAL(region.counters[Counter::efault], 1u);
  CHECK(region.resolver.record().state(3) == PageState::unresolved);
}

TEST("fault-around takes only what nobody has in hand, inside the aligned block") {
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
  region.resolver.record().set(2, PageState::resolved);
  CHECK_EQUAL(region.resolver.install_again(2, nullptr, true, region.counters).pages, 1u);
  CHECK(region.resolver.install_again(2, nullptr, true, region.counters).lost);
  CHECK_EQUAL(region.counters[Counter::wakes], 1u);
}

TEST("a poisoned page is refused by CONTINUE only through the record: the kernel would un-poison it") {
  Region region;
  CHECK(region.resolver.record().claim(5, PageRecord::vcpu_claim()));
  CHECK_EQUAL(region.resolver.poison(5, false, region.counters), 0);
  CHECK(region.resolver.record().state(5) == PageState::poisoned);
  CHECK_EQUAL(region.counters[Counter::pages_poisoned], 1u);
  CHECK_EQUAL(region.resolver.claim(5, PageRecord::vcpu_claim()).count, 0u);
  CHECK_EQUAL(region.uffd.resume(region.mapping.address() + 5 * kPage, kPage, false).error, 0);  // probed on 6.18
}
