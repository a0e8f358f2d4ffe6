#include "check.hpp"
#include "server/live.hpp"
#include "whole_guest.hpp"

using namespace uffd;

TEST("a histogram of durations gives a quantile to a thirty-second, and never below what was added") {
  DurationHistogram histogram;
  CHECK_EQUAL(histogram.quantile(0.99), 0u);
  for (Ticks ticks = 1; ticks <= 100'000; ++ticks) histogram.add(ticks, 1);
  for (const double share : {0.5, 0.9, 0.99, 1.0}) {
    const double exact = share * 100'000;
    const auto found = static_cast<double>(histogram.quantile(share));
    CHECK(found >= exact);
    CHECK(found <= exact * (1 + 1.0 / 32));
  }
  DurationHistogram weighted;
  weighted.add(10, 98);
  weighted.add(~Ticks{0}, 2);
  CHECK_EQUAL(weighted.quantile(0.98), 10u);
  CHECK_EQUAL(weighted.quantile(0.99), ~Ticks{0});
}

TEST("a look sees every record of a guest by kind, once, however often one looks") {
  GuestPlan plan;
  plan.kind = Kind::absent;
  plan.guest.vcpus = 4;
  plan.guest.vcpus_per_vmm = 2;
  plan.vmm.strategy = "no_slow_gup";
  const auto result = run_guest(plan);
  const Guest& guest = *result->guest;
  Live live(guest);
  for (std::uint32_t vmm = 0; vmm < 2; ++vmm)
    live.watch(vmm, result->vmms[vmm]->vcpus()[0]->records(), guest.pages() + 1, PageRecord());
  for (int i = 0; i < 3; ++i) {
    const Live::Look look = live.look();
    CHECK_EQUAL(look.pages_resolved, 1024u);
    CHECK_EQUAL(look.faults, 1024u);
    CHECK_EQUAL(look.faults_by_kind[static_cast<std::size_t>(Kind::absent)], 1024u);
    CHECK_EQUAL(look.faults_by_kind[static_cast<std::size_t>(Kind::minor)], 0u);
    CHECK(look.latency_p99_ns > 0.0);
    CHECK_EQUAL(look.finished, 4u);
    CHECK_EQUAL(look.running, 0u);
    CHECK(look.standing.empty());
    CHECK(look.seconds > 0.0);
  }
}

TEST("faults of which only some left a record are scaled up to all of them") {
  GuestPlan plan;
  plan.vmm.strategy = "no_uffd_wait";
  plan.vmm.sample_every = 4;
  plan.vmm.record_capacity = 300;
  const auto result = run_guest(plan);
  Live live(*result->guest);
  live.watch(0, result->vmms[0]->vcpus()[0]->records(), 301, PageRecord());
  const Live::Look look = live.look();
  CHECK_EQUAL(look.faults, 1024u);
  CHECK_EQUAL(look.faults_by_kind[static_cast<std::size_t>(Kind::minor)], 1024u);
}

TEST("the record that faults without room pass through is none of those that a look counts") {
  const Guest guest({.region_bytes = 16 * 4096});
  for (std::uint8_t& kind : guest.kinds()) kind = static_cast<std::uint8_t>(Kind::minor);
  const FaultRecord records[2]{};
  guest.vcpu(0).faults.store(2);
  Live live(guest);
  live.watch(0, records, 2, PageRecord());
  const Live::Look look = live.look();
  CHECK_EQUAL(look.faults, 2u);
  CHECK_EQUAL(look.faults_by_kind[static_cast<std::size_t>(Kind::minor)], 1u);
}

TEST("what each thread used is counted for the measured phase, and where it ran") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait"}) {
    GuestPlan plan;
    plan.vmm.strategy = strategy;
    const auto result = run_guest(plan);
    for (const auto& vcpu : result->vmms[0]->vcpus()) {
      const ThreadUsage& usage = vcpu->usage();
      CHECK(usage.user_ns + usage.system_ns > 0);
      CHECK(static_cast<double>(usage.user_ns + usage.system_ns) <
            static_cast<double>(vcpu->end() - vcpu->start()) * 1e9 / Clock::get().ticks_per_s() + 50e6);
      CHECK(!vcpu->cpus_seen().empty());
      if (std::string(strategy) == "uffd_wait") CHECK(usage.voluntary_switches > 0);
    }
  }
}

TEST("with several readers of one userfaultfd in epoll, a fault wakes one of them") {
  GuestPlan plan;
  plan.guest.vcpus = plan.guest.vcpus_per_vmm = 1;
  plan.guest.region_bytes = 200 * 4096;
  plan.vmm.strategy = "uffd_wait";
  plan.vmm.access.think_ns = 200'000;  // every reader sleeps again before the next fault
  plan.server.readers = 4;
  plan.server.wait = "epoll";
  const auto result = run_guest(plan);
  CHECK_EQUAL(result->pages_resolved, 200u);
  std::uint64_t sleeps = 0;
  for (const ThreadInfo& thread : result->threads) sleeps += thread.usage.voluntary_switches;
  CHECK(sleeps >= 100 && sleeps < 400);  // woken all at once: 800
}

TEST("a vCPU that is not served is seen standing: which page, in which state and stage") {
  GuestPlan plan;
  plan.guest.vcpus = plan.guest.vcpus_per_vmm = 1;
  Guest guest(plan.guest);
  const std::vector<std::uint8_t> kinds(guest.pages(), static_cast<std::uint8_t>(Kind::minor));
  fill(guest, kinds);
  VmmConfig config = plan.vmm;
  config.strategy = "uffd_wait";
  config.record_capacity = guest.pages();
  Vmm vmm(guest, config);
  vmm.prepare();
  PageServer server(guest, plan.server);
  const Shard& shard = vmm.shards()[0];
  server.add(vmm.userfaultfds()[0]->fd(), {{shard.address, shard.pages * 4096, 0, 4096}}, 0, vmm.record_fd(), vmm.faults_fd());
  std::thread running([&] { vmm.run(); });
  while (guest.vcpu(0).stage.load() != Stage::raised) std::this_thread::yield();
  const Live::Look first = server.look();
  CHECK(first.standing.empty());
  CHECK_EQUAL(first.running, 1u);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  const Live::Look second = server.look();
  CHECK_EQUAL(second.standing.size(), 1u);
  CHECK_EQUAL(second.standing[0].vcpu, 0u);
  CHECK_EQUAL(second.standing[0].page, guest.vcpu(0).page.load());
  CHECK_EQUAL(std::string(second.standing[0].page_state), "unresolved");
  CHECK_EQUAL(std::string(second.standing[0].stage), "raised (touched, not yet delivered)");
  CHECK(second.standing[0].seconds >= 0.03);
  guest.stop("enough");
  running.join();
}
