#include <poll.h>
#include <unistd.h>

#include "check.hpp"
#include "kernel/error.hpp"
#include "whole_guest.hpp"

using namespace uffd;

namespace {

GuestPlan plan_for(const char* strategy, const char* prefetch) {
  GuestPlan plan;
  plan.vmm.strategy = strategy;
  plan.vmm.watchdog_s = 20.0;
  plan.kind = Kind::absent;
  plan.server.prefetch.name = prefetch;
  return plan;
}

// Nothing wrong, and every page of every mapping brought by exactly one of the two.
void check_shared_out(const GuestResult& result, std::uint64_t pages) {
  CHECK_EQUAL(result.stop_reason, "");
  CHECK_EQUAL(result.wrong_words, 0u);
  CHECK_EQUAL(result.unprepared, 0u);
  CHECK_EQUAL(result.verified, pages);
  CHECK_EQUAL(result.pages_resolved + result.server[Counter::prefetched_pages], pages);
}

}  // namespace

TEST("the prefetcher and the vCPUs share the pages out, whatever they raced for") {
  for (const char* strategy : kResolving)
    for (const Kind kind : {Kind::absent, Kind::minor}) {
      GuestPlan plan = plan_for(strategy, "order");
      plan.kind = kind;
      plan.guest.vcpus = plan.guest.vcpus_per_vmm = 8;
      plan.server.readers = 3;
      plan.vmm.access.overlap = true;
      const auto result = run_guest(plan);
      check_shared_out(*result, kPages);
      if (kind == Kind::absent) CHECK_EQUAL(result->server[Counter::fetched_pages], kPages);
    }
}

TEST("vCPUs that hold still find every page prefetched: none is left to fault on") {
  for (const char* strategy : kResolving) {
    GuestPlan plan = plan_for(strategy, "order");
    plan.vmm.access.order = "none";
    plan.vmm.access.hold_ns = 500'000'000;
    plan.server.prefetch.batch_pages = 256;
    const auto result = run_guest(plan);
    check_shared_out(*result, kPages);
    CHECK_EQUAL(result->server[Counter::prefetched_pages], kPages);
    CHECK_EQUAL(result->recorded, 0u);
    CHECK_EQUAL(result->prefetched.back().pages, kPages);
  }
}

TEST("a working set is prefetched and nothing else") {
  GuestPlan plan = plan_for("no_uffd_wait", "working_set");
  plan.server.prefetch.pages = {5, 6, 7, 900, 3, 5, 1023};
  plan.vmm.access.order = "none";
  plan.vmm.access.hold_ns = 500'000'000;
  const auto result = run_guest(plan);
  CHECK_EQUAL(result->stop_reason, "");
  CHECK_EQUAL(result->server[Counter::prefetched_pages], 6u);
  CHECK_EQUAL(result->verified, 6u);
  const PageStates states = result->vmms[0]->page_states();
  CHECK_EQUAL(states[static_cast<std::size_t>(PageState::resolved)], 6u);
}

TEST("anonymous memory is prefetched by copies, and every mapping and shard of a guest gets its pages") {
  for (const char* strategy : kResolving) {
    GuestPlan anon = plan_for(strategy, "order");
    anon.guest.memory = MemoryType::anon;
    check_shared_out(*run_guest(anon), kPages);
    GuestPlan several = plan_for(strategy, "order");
    several.guest.vcpus = 4;
    several.guest.vcpus_per_vmm = 2;
    several.vmm.uffds = 3;
    several.vmm.access.overlap = true;
    check_shared_out(*run_guest(several), 2 * kPages);
  }
}

TEST("a prefetch limit is kept to") {
  GuestPlan plan = plan_for("uffd_wait", "order");
  plan.server.prefetch.mib_per_s = 2.0;
  plan.vmm.access.order = "none";
  plan.vmm.access.hold_ns = 500'000'000;
  const auto result = run_guest(plan);
  const std::uint64_t pages = result->server[Counter::prefetched_pages];
  CHECK(pages > 0);
  CHECK(pages <= 2 * 256 / 2 + 256 / 5 + 2 * 16);  // half a second's, what may be caught up on after a pause, two batches
}

TEST("pages that the source cannot give are left to the vCPU that touches them") {
  GuestPlan plan = plan_for("uffd_wait", "order");
  plan.kinds = {Kind::absent, Kind::absent, Kind::absent, Kind::poisoned};
  plan.vmm.access.order = "none";
  plan.vmm.access.hold_ns = 500'000'000;
  const auto result = run_guest(plan);
  CHECK_EQUAL(result->server[Counter::prefetched_pages], kPages * 3 / 4);
  CHECK_EQUAL(result->wrong_words, 0u);
}

TEST("the page server's delay holds the prefetcher up too") {
  GuestPlan plan = plan_for("no_slow_gup", "order");
  plan.server.delay_us = 20'000;
  plan.vmm.access.order = "none";
  plan.vmm.access.hold_ns = 200'000'000;
  const std::uint64_t began = Clock::monotonic_ns();
  const std::uint64_t pages = run_guest(plan)->server[Counter::prefetched_pages];
  CHECK(pages <= ((Clock::monotonic_ns() - began) / 20'000'000 + 1) * 16);  // a batch each 20 ms, however long the machine takes
}

TEST("pages whose contents are here are prefetched without the page server's delay") {
  GuestPlan plan = plan_for("no_slow_gup", "order");
  plan.kind = Kind::minor;
  plan.server.delay_us = 3.6e9;
  plan.vmm.access.order = "none";
  plan.vmm.access.hold_ns = 200'000'000;
  CHECK(run_guest(plan)->server[Counter::prefetched_pages] > 0);
}

TEST("contents of anonymous pages are right after a gap in a batch: a shard that ends inside it") {
  for (const std::uint32_t shards : {3u, 7u}) {
    GuestPlan plan = plan_for("uffd_wait", "order");
    plan.guest.memory = MemoryType::anon;
    plan.vmm.uffds = shards;
    plan.vmm.access.order = "none";
    plan.vmm.access.hold_ns = 500'000'000;
    const auto result = run_guest(plan);
    check_shared_out(*result, kPages);
    CHECK_EQUAL(result->server[Counter::prefetched_pages], kPages);
  }
}

TEST("pages that were dropped before the prefetcher came to them are left to the next fault, in every VMM process") {
  for (const bool touched : {false, true}) {
    GuestPlan plan = plan_for("uffd_wait", "order");
    plan.kind = Kind::minor;
    plan.guest.vcpus_per_vmm = 1;
    plan.punched = {5, 600, 1023};
    plan.vmm.access.overlap = true;
    if (!touched) {
      plan.vmm.access.order = "none";
      plan.vmm.access.hold_ns = 500'000'000;
    }
    const auto result = run_guest(plan);
    CHECK_EQUAL(result->stop_reason, "");
    CHECK_EQUAL(result->wrong_words, 0u);
    if (touched)
      CHECK_EQUAL(result->verified, 2 * kPages);
    else
      CHECK_EQUAL(result->verified + result->gone, 2 * (kPages - 3));
    CHECK(result->server[Counter::efault] > 0 || touched);
  }
}

TEST("the prefetcher gives a block up while a remove event is unread, and the run goes on") {
  const Guest guest({.memory = MemoryType::anon, .region_bytes = kPages * 4096});
  const Mapping memory = Mapping::anonymous(kPages * 4096, 4096);
  Userfaultfd uffd(UFFD_FEATURE_EVENT_REMOVE);
  uffd.register_range(memory.address(), memory.bytes(), UFFDIO_REGISTER_MODE_MISSING);
  PageServer server(guest, {.readers = 0, .prefetch = {.name = "order"}});
  server.add(uffd.fd(), {{memory.address(), memory.bytes(), 0, 4096}}, -1, -1, -1);
  std::thread dropper([&] { ::madvise(memory.data(), 4096, MADV_DONTNEED); });
  pollfd unread{uffd.fd(), POLLIN, 0};
  while (::poll(&unread, 1, 1000) != 1) {
  }
  guest.release(0, 1);
  std::thread serving([&] { server.serve(); });
  ::usleep(300'000);
  server.stop();
  serving.join();  // the block under way is tried to its end
  uffd_msg message;
  CHECK_EQUAL(::read(uffd.fd(), &message, sizeof message), static_cast<ssize_t>(sizeof message));
  dropper.join();
  CHECK_EQUAL(guest.stop_reason(), "");
  CHECK(server.counters()[Counter::eagain_changing] > 0);
  CHECK_EQUAL(server.counters()[Counter::prefetched_pages], 0u);
}

TEST("a prefetch that is unknown or outside the region is refused") {
  const GuestPlan plan = plan_for("uffd_wait", "order");
  const Guest guest(plan.guest);
  const auto text = [&guest](PrefetchConfig prefetch) -> std::string {
    try {
      const PageServer server(guest, {.prefetch = std::move(prefetch)});
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  };
  CHECK(text({.name = "backwards"}).find("prefetch 'backwards' is unknown; it is one of none, order, working_set") == 0);
  CHECK(text({.name = "working_set", .pages = {1024}}).find("the working set holds page 1024") == 0);
  CHECK(text({.name = "order", .batch_pages = 0}).find("prefetch.batch_pages must be at least 1") == 0);
}
