// A vCPU that has exited for a page that another one fetches sleeps until it is there.
#include <chrono>
#include <thread>

#include "check.hpp"
#include "guest/page_waiters.hpp"
#include "whole_guest.hpp"

using namespace uffd;

namespace {

constexpr std::uint64_t kLongNs = 60'000'000'000;

/// Whether `done` comes true within a time that a lost wake would exceed by far.
bool soon(const std::atomic<bool>& done) {
  for (int i = 0; i < 2000 && !done; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return done;
}

}  // namespace

TEST("a waiter is woken when its page is settled as one of a run, and does not sleep when it has been settled before") {
  PageWaiters waiters{};
  std::atomic<int> looks{0};
  std::atomic<bool> in_flight{true}, done{false};
  std::thread waiter([&] {
    while (in_flight)
      waiters.wait(700, kLongNs, [&] {
        ++looks;
        return in_flight.load();
      });
    done = true;
  });
  while (looks == 0) std::this_thread::yield();
  in_flight = false;
  waiters.settled({512, 512});
  const bool woken = soon(done);
  waiters.wake_all();
  waiter.join();
  CHECK(woken);
  waiters.wait(3, kLongNs, [] { return false; });  // returns
}

namespace {

/// Whether `settle`, which is to settle the claimed page 3, returns true and wakes who waits for that page.
bool wakes(const std::function<bool(const Resolver&, Counters&)>& settle) {
  const Guest guest(GuestConfig{.region_bytes = 16 * 4096});
  const Mapping alias = Mapping::shared(guest.region_fd(), guest.config().region_bytes);
  const Mapping mapping = Mapping::shared(guest.region_fd(), guest.config().region_bytes);
  alias.data()[3 * 4096] = std::byte{1};
  Userfaultfd uffd(UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM);
  uffd.register_range(mapping.address(), mapping.bytes(), UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR);
  std::vector<std::atomic<std::uint8_t>> bytes(16);
  const Resolver resolver({{&uffd, mapping.address(), 0, 16}}, PageRecord(bytes.data()), guest.config(), 1, &guest);
  CHECK_EQUAL(resolver.claim(3, PageRecord::reader_claim(0)).count, 1u);
  std::atomic<int> looks{0};
  std::atomic<bool> done{false};
  std::thread waiter([&] {
    const auto in_flight = [&] {
      ++looks;
      return resolver.record().state(3) == PageState::in_flight;
    };
    while (in_flight()) guest.header().page_waiters.wait(3, kLongNs, in_flight);
    done = true;
  });
  while (looks < 2) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  Counters counters;
  const bool settled = settle(resolver, counters);
  const bool woken = soon(done);
  guest.header().page_waiters.wake_all();
  waiter.join();
  return settled && woken;
}

}  // namespace

TEST("installing a claimed page wakes who waits for it, and so do giving it back and poisoning it") {
  CHECK(wakes(
      [](const Resolver& resolver, Counters& counters) { return resolver.install({3, 1}, {.wanted = 3}, counters).pages == 1; }));
  CHECK(wakes([](const Resolver& resolver, Counters&) {
    resolver.release({3, 1});
    return true;
  }));
  if (kernel_poisons())
    CHECK(wakes([](const Resolver& resolver, Counters& counters) { return resolver.poison(3, false, counters).pages == 1; }));
}

TEST("a stop wakes every waiter, whatever its page") {
  const Guest guest(GuestConfig{.region_bytes = 4096 * 4096, .vcpus = 2, .vcpus_per_vmm = 2});
  std::atomic<int> asleep{0};
  std::atomic<bool> done{false};
  std::thread waiter([&] {
    while (!guest.stopping())
      guest.header().page_waiters.wait(4001, kLongNs, [&] {
        ++asleep;
        return !guest.stopping();
      });
    done = true;
  });
  while (asleep == 0) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  guest.stop("asked to");
  const bool woken = soon(done);
  guest.header().page_waiters.wake_all();
  waiter.join();
  CHECK(woken);
}

TEST("vCPUs that exit for a page under way sleep until it is there, and every page is resolved once") {
  for (const char* strategy : {"no_uffd_wait", "no_slow_gup"}) {
    GuestPlan plan;
    plan.vmm.strategy = strategy;
    plan.vmm.watchdog_s = 20.0;
    plan.kind = Kind::absent;
    plan.guest.region_bytes = 8 * 4096;
    plan.guest.vcpus = plan.guest.vcpus_per_vmm = 4;
    plan.vmm.access.overlap = true;
    plan.vmm.access.order = "sequential";  // all of them come to each page at a time
    plan.server.delay_us = 100'000;        // longer than a few yields take on a loaded machine
    const auto result = run_guest(plan);
    CHECK_EQUAL(result->stop_reason, "");
    CHECK_EQUAL(result->pages_resolved, 8u);
    CHECK_EQUAL(result->wrong_words, 0u);
    CHECK((*result)[Counter::page_waits] > 0);
    // Spinning through 8 fetches of 100 ms would take each of three vCPUs 800 ms of CPU time.
    std::uint64_t cpu_ns = 0;
    for (const auto& vcpu : result->vmms[0]->vcpus()) cpu_ns += vcpu->usage().user_ns + vcpu->usage().system_ns;
    CHECK(cpu_ns < 3u * 800'000'000u / 4);
  }
}
