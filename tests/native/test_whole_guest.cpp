#include "check.hpp"
#include "kernel/error.hpp"
#include "whole_guest.hpp"

using namespace uffd;

namespace {

constexpr const char* kInstalling[] = {"uffd_wait", "no_uffd_wait", "no_slow_gup"};

GuestPlan plan_for(const char* strategy, std::uint32_t vcpus = 2, std::uint32_t vmms = 1) {
  GuestPlan plan;
  plan.vmm.strategy = strategy;
  plan.vmm.watchdog_s = 20.0;
  plan.guest.vcpus = vcpus;
  plan.guest.vcpus_per_vmm = vcpus / vmms;
  return plan;
}

// What holds whatever was raced: nothing wrong, every page resolved once a mapping, every fault recorded with one outcome.
void check_identities(const GuestResult& result, std::uint64_t pages_expected) {
  CHECK_EQUAL(result.stop_reason, "");
  CHECK_EQUAL(result.wrong_words, 0u);
  CHECK_EQUAL(result.unprepared, 0u);
  CHECK_EQUAL(result.pages_resolved, pages_expected);
  CHECK_EQUAL(result.verified, pages_expected);
  CHECK_EQUAL(result[Counter::records_dropped], 0u);
  for (const auto& vmm : result.vmms)
    for (const auto& vcpu : vmm->vcpus()) {
      CHECK_EQUAL(vcpu->recorded(), vcpu->state().faults.load());
      for (std::uint64_t i = 0; i < vcpu->recorded(); ++i) {
        const FaultRecord& record = vcpu->records()[i];
        CHECK(record.raised <= record.resumed);
        if (record.delivered != 0) CHECK(record.raised <= record.delivered.load());
        if (record.outcome == FaultOutcome::resolved || record.outcome == FaultOutcome::waited) CHECK(record.delivered != 0u);
      }
    }
}

}  // namespace

TEST("every strategy resolves every minor page once, one fault a page") {
  for (const char* strategy : {"null", "uffd_wait", "no_uffd_wait", "no_slow_gup"}) {
    const auto result = run_guest(plan_for(strategy));
    check_identities(*result, 1024);
    CHECK_EQUAL(result->recorded, 1024u);
  }
}

TEST("every strategy fetches absent pages, through the ring when it exits and through the reader when it sleeps") {
  for (const char* strategy : kInstalling) {
    GuestPlan plan = plan_for(strategy);
    plan.kind = Kind::absent;
    const auto result = run_guest(plan);
    check_identities(*result, 1024);
    CHECK_EQUAL(result->server[Counter::fetched_pages], 1024u);
    const bool exits = std::string(strategy) != "uffd_wait";
    CHECK_EQUAL(result->server[Counter::requests], exits ? 1024u : 0u);
    CHECK_EQUAL(result->server[Counter::events], exits ? 0u : 1024u);
  }
}

TEST("pages that are hits fault under no strategy") {
  for (const char* strategy : {"null", "uffd_wait", "no_uffd_wait", "no_slow_gup"}) {
    GuestPlan plan = plan_for(strategy);
    plan.kind = Kind::hit;
    const auto result = run_guest(plan);
    CHECK_EQUAL(result->stop_reason, "");
    CHECK_EQUAL(result->unprepared, 0u);
    CHECK_EQUAL(result->recorded, 0u);
    CHECK_EQUAL(result->pages_resolved, 0u);
    CHECK_EQUAL(result->verified, 1024u);
    CHECK_EQUAL(result->wrong_words, 0u);
  }
}

TEST("anonymous memory is copied: by the reader, and through the ring's slot by an exiting vCPU") {
  for (const char* strategy : kInstalling) {
    GuestPlan plan = plan_for(strategy);
    plan.guest.memory = MemoryType::anon;
    plan.guest.request_pages = 4;
    plan.kind = Kind::absent;
    check_identities(*run_guest(plan), 1024);
  }
}

TEST("overlapping vCPUs and several readers lose races and nothing else") {
  for (const char* strategy : kInstalling)
    for (const Kind kind : {Kind::minor, Kind::absent}) {
      GuestPlan plan = plan_for(strategy, 8);
      plan.kind = kind;
      plan.server.readers = 3;
      plan.vmm.access.overlap = true;
      check_identities(*run_guest(plan), 1024);
    }
}

TEST("VMM processes that share the region resolve each page once in each mapping and fetch it once") {
  for (const char* strategy : kInstalling) {
    GuestPlan plan = plan_for(strategy, 4, 2);
    plan.kind = Kind::absent;
    plan.guest.request_pages = 8;
    plan.server.delay_us = 20;
    plan.server.delay_exponential = true;
    plan.vmm.access.overlap = true;
    const auto result = run_guest(plan);
    check_identities(*result, 2 * 1024);
    CHECK_EQUAL(result->guest_pages_resolved, 1024u);  // of the guest, whichever mapping was first
    CHECK_EQUAL(result->server[Counter::fetched_pages], 1024u);
  }
}

TEST("shards of one VMM process are served by poll, epoll and spin alike") {
  for (const char* wait : {"poll", "epoll", "spin"}) {
    GuestPlan plan = plan_for("uffd_wait", 4);
    plan.vmm.uffds = 3;
    plan.server.wait = wait;
    check_identities(*run_guest(plan), 1024);
  }
}

TEST("writes resolve pages and leave the contents as they were") {
  for (const char* strategy : kInstalling) {
    GuestPlan plan = plan_for(strategy);
    plan.vmm.access.read_share = 0.0;
    plan.vmm.verify = "page";
    check_identities(*run_guest(plan), 1024);
  }
}

TEST("the delay asked for is at least kept") {
  GuestPlan plan = plan_for("uffd_wait", 2);
  plan.kind = Kind::absent;
  plan.guest.region_bytes = 64 * 4096;
  plan.server.delay_us = 300;
  const auto result = run_guest(plan);
  check_identities(*result, 64);
  CHECK_EQUAL(result->server[Counter::delays], 64u);
  CHECK(result->server[Counter::delay_ns] >= 64u * 300'000u);
}

TEST("an open-loop vCPU keeps latency from the intended time, and never touches before it") {
  GuestPlan plan = plan_for("no_uffd_wait", 1);
  plan.guest.region_bytes = 100 * 4096;
  plan.vmm.access.rate_per_s = 2000;
  const auto result = run_guest(plan);
  check_identities(*result, 100);
  const Vcpu& vcpu = *result->vmms[0]->vcpus()[0];
  CHECK_EQUAL(vcpu.recorded(), 100u);
  for (std::uint64_t i = 0; i < 100; ++i) CHECK(vcpu.records()[i].intended <= vcpu.records()[i].raised);
  CHECK(vcpu.records()[99].intended - vcpu.records()[0].intended >= 99u * 499'000u);
}

TEST("sampling keeps every k-th fault, and a full table counts what it drops") {
  GuestPlan plan = plan_for("no_uffd_wait", 1);
  plan.vmm.sample_every = 4;
  auto result = run_guest(plan);
  CHECK_EQUAL(result->recorded, 256u);
  plan.vmm.sample_every = 1;
  plan.vmm.record_capacity = 10;
  result = run_guest(plan);
  CHECK_EQUAL(result->recorded, 10u);
  CHECK_EQUAL((*result)[Counter::records_dropped], 1014u);
}

TEST("the stages of a fault follow each other though its vCPU sleeps in userfaultfd after it has exited") {
  GuestPlan plan = plan_for("populate");
  plan.kind = Kind::absent;
  const auto result = run_guest(plan);
  CHECK(result->server[Counter::populate_waits] > 0);
  std::uint64_t fetched = 0;
  for (const auto& vcpu : result->vmms[0]->vcpus())
    for (std::uint64_t i = 0; i < vcpu->recorded(); ++i) {
      const FaultRecord& record = vcpu->records()[i];
      CHECK(record.raised <= record.delivered.load());
      CHECK(record.delivered.load() <= record.fetched.load());
      fetched += record.fetched.load() != 0;
    }
  CHECK_EQUAL(fetched, 1024u);
}

TEST("contents that are here when an exit arrives take no time of their own: they are fetched when it is delivered") {
  for (const char* strategy : {"no_uffd_wait", "no_slow_gup"}) {
    const auto result = run_guest(plan_for(strategy));
    std::uint64_t delivered = 0;
    for (const auto& vcpu : result->vmms[0]->vcpus())
      for (std::uint64_t i = 0; i < vcpu->recorded(); ++i) {
        const FaultRecord& record = vcpu->records()[i];
        delivered += record.delivered.load() != 0;
        CHECK_EQUAL(record.fetched.load(), record.delivered.load());
      }
    CHECK_EQUAL(delivered, kPages);
  }
}

TEST("without a page server, the watchdog ends the run and names vCPU, page, state and stage") {
  GuestPlan plan = plan_for("uffd_wait", 2);
  plan.vmm.watchdog_s = 1.0;
  const auto result = run_guest(plan, false);
  CHECK(result->stop_reason.find("stuck: vCPU") == 0);
  CHECK(result->stop_reason.find("is unresolved, stage: raised") != std::string::npos);
  CHECK_EQUAL((*result)[Counter::abandoned], 2u);
}

TEST("without an answer from the ring, the watchdog names the vCPU that waits") {
  GuestPlan plan = plan_for("no_slow_gup", 1);
  plan.kind = Kind::absent;
  plan.vmm.watchdog_s = 1.0;
  const auto result = run_guest(plan, false);
  CHECK(result->stop_reason.find("is in flight, stage: fetching") != std::string::npos);
}

TEST("a stop from outside ends a run at the barrier and a run asleep") {
  GuestPlan plan = plan_for("uffd_wait", 1);
  plan.guest.vcpus = 2;  // the second vCPU's VMM process never comes
  plan.guest.vcpus_per_vmm = 1;
  const Guest guest(plan.guest);
  fill(guest, std::vector<std::uint8_t>(guest.pages(), 1));
  plan.vmm.record_capacity = 16;
  Vmm vmm(guest, plan.vmm);
  std::thread outside([&guest] {
    while (guest.header().arrived.load() == 0) std::this_thread::yield();
    guest.stop("asked to");
  });
  vmm.run();
  outside.join();
  CHECK_EQUAL(guest.stop_reason(), "asked to");
}

TEST("the last descriptor outlives the vCPUs: 64 vCPUs in one VMM process run to the end") {
  for (const char* strategy : kInstalling) check_identities(*run_guest(plan_for(strategy, 64)), 1024);
}

TEST("page_server.wait=spin uses the CPUs of readers and of no other thread") {
  for (const char* strategy : {"uffd_wait", "no_slow_gup"}) {
    const bool exits = std::string(strategy) == "no_slow_gup";
    GuestPlan plan = plan_for(strategy, 1);
    plan.kind = Kind::absent;
    plan.server.wait = "spin";
    plan.vmm.access.hold_ns = 200'000'000;  // without a request
    const auto result = run_guest(plan);
    check_identities(*result, 1024);
    const auto used_ns = [](const ThreadUsage& usage) { return usage.user_ns + usage.system_ns; };
    const std::uint64_t reader = used_ns(result->threads.front().usage), ring = used_ns(result->threads.back().usage);
    CHECK(exits ? ring > reader : reader > ring);
  }
}

TEST("with room for no record none is kept, none is missed, and every fault is served and counted") {
  for (const char* strategy : {"null", "uffd_wait", "no_uffd_wait", "no_slow_gup"}) {
    GuestPlan plan = plan_for(strategy);
    plan.no_records = true;
    const auto result = run_guest(plan);
    CHECK_EQUAL(result->stop_reason, "");
    CHECK_EQUAL(result->recorded, 0u);
    CHECK_EQUAL((*result)[Counter::records_dropped], 0u);
    CHECK_EQUAL(result->pages_resolved, 1024u);
    CHECK_EQUAL(result->verified, 1024u);
    CHECK_EQUAL(result->wrong_words, 0u);
  }
}
