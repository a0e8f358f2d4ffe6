// Poisoned pages, at the source and after resolving, and what each strategy makes of them. No swap in it: any machine.
#include <unistd.h>

#include <map>

#include "check.hpp"
#include "whole_guest.hpp"

using namespace uffd;

namespace {

GuestPlan poisoned(const char* strategy, MemoryType memory, bool when_resolved) {
  GuestPlan plan;
  plan.vmm.strategy = strategy;
  plan.guest.memory = memory;
  plan.guest.vcpus = plan.guest.vcpus_per_vmm = 1;
  plan.guest.poisoned_when_resolved = when_resolved;
  const Kind rest = memory == MemoryType::anon ? Kind::absent : Kind::minor;
  plan.kinds = {Kind::poisoned, rest, rest, rest};
  return plan;
}

std::map<FaultOutcome, std::uint64_t> outcomes(const GuestResult& result, Kind kind) {
  std::map<FaultOutcome, std::uint64_t> counts;
  for (const auto& vmm : result.vmms)
    for (const auto& vcpu : vmm->vcpus())
      for (std::uint64_t i = 0; i < vcpu->recorded(); ++i)
        if (vcpu->records()[i].kind == kind) ++counts[vcpu->records()[i].outcome];
  return counts;
}

}  // namespace

TEST("under every strategy a poisoned page is a memory error, once an access, and stays poisoned") {
  for (const bool when_resolved : {false, true})
    for (const MemoryType memory : {MemoryType::shmem, MemoryType::anon})
      for (const char* strategy : kResolving) {
        const auto result = run_guest(poisoned(strategy, memory, when_resolved));
        CHECK_EQUAL(result->stop_reason, "");
        CHECK_EQUAL(result->unprepared, 0u);
        CHECK_EQUAL(result->prepared[static_cast<std::size_t>(Kind::poisoned)], 256u);
        CHECK_EQUAL(result->wrong_words, 0u);
        CHECK_EQUAL(result->refused, 256u);
        CHECK_EQUAL(result->pages_resolved, 768u);
        CHECK_EQUAL((*result)[Counter::memory_errors], 256u);
        CHECK_EQUAL((*result)[Counter::pages_poisoned] + result->server[Counter::pages_poisoned], when_resolved ? 0u : 256u);
        const auto counts = outcomes(*result, Kind::poisoned);
        CHECK_EQUAL(counts.size(), 1u);
        CHECK_EQUAL(counts.at(FaultOutcome::memory_error), 256u);
      }
}

TEST("a page that was poisoned before is a memory error at the next access too where exits go by EEXIST alone") {
  for (const char* strategy : {"no_uffd_wait", "no_slow_gup"}) {
    GuestPlan plan = poisoned(strategy, MemoryType::shmem, false);
    plan.vmm.options["page_record"] = 1;
    plan.vmm.access.passes = 2;
    plan.vmm.watchdog_s = 5.0;
    const auto result = run_guest(plan);
    CHECK_EQUAL(result->stop_reason, "");
    CHECK_EQUAL((*result)[Counter::memory_errors], 512u);
  }
}

TEST("preparing poisoned pages raises no remove event where removes are tracked: a reader would take it for a balloon's") {
  needs_poison();
  for (const MemoryType memory : {MemoryType::shmem, MemoryType::anon}) {
    const Guest guest({.memory = memory, .region_bytes = 16 * 4096, .poisoned_when_resolved = true, .drops = true});
    fill(guest, std::vector<std::uint8_t>(guest.pages(), static_cast<std::uint8_t>(Kind::poisoned)));
    Vmm vmm(guest, {.strategy = "uffd_wait", .disturb = {.balloon = {.rate_per_s = 1.0, .track_removes = true}}});
    std::atomic<bool> prepared{false};
    std::uint64_t events = 0;
    std::thread reader([&] {  // what drops a page sleeps until its event is read
      uffd_msg message;
      while (!prepared.load())
        if (::read(vmm.userfaultfds()[0]->fd(), &message, sizeof message) > 0)
          ++events;
        else
          ::usleep(100);
    });
    const Prepared found = vmm.prepare();
    prepared.store(true);
    reader.join();
    CHECK_EQUAL(events, 0u);
    CHECK_EQUAL(found.pages[static_cast<std::size_t>(Kind::poisoned)], 16u);
    CHECK_EQUAL(vmm.page_states()[static_cast<std::size_t>(PageState::resolved)], 16u);
  }
}

TEST("behind poison that came after the page was resolved the page cache has wrong contents: who un-poisons it reads them") {
  needs_poison();
  const Guest guest({.region_bytes = 16 * 4096, .poisoned_when_resolved = true});
  std::vector<std::uint8_t> kinds(16, static_cast<std::uint8_t>(Kind::minor));
  kinds[3] = static_cast<std::uint8_t>(Kind::poisoned);
  fill(guest, kinds);
  const Vmm vmm(guest, {.strategy = "no_uffd_wait"});
  CHECK_EQUAL(vmm.prepare().unprepared, 0u);
  const Mapping alias = Mapping::shared(guest.region_fd(), 16 * 4096);
  std::uint64_t first = 0;
  CHECK_EQUAL(guest.contents().wrong_words(3, alias.data() + 3 * 4096, first), 512u);
  CHECK_EQUAL(guest.contents().wrong_words(4, alias.data() + 4 * 4096, first), 0u);
}

TEST("a sleeper that is woken to poison was delivered before it was answered") {
  GuestPlan plan;
  plan.vmm.strategy = "uffd_wait";
  plan.kinds = {Kind::poisoned};
  const auto result = run_guest(plan);
  std::uint64_t met = 0;
  for (const auto& vcpu : result->vmms[0]->vcpus())
    for (std::uint64_t i = 0; i < vcpu->recorded(); ++i) {
      const FaultRecord& record = vcpu->records()[i];
      if (record.outcome != FaultOutcome::memory_error || record.installed.load() == 0) continue;
      ++met;
      CHECK(record.delivered.load() != 0 && record.delivered.load() < record.installed.load());
    }
  CHECK(met > 0);
}

TEST("poison at the source is installed in every mapping of the guest") {
  for (const char* strategy : kResolving) {
    GuestPlan plan = poisoned(strategy, MemoryType::shmem, false);
    plan.guest.vcpus = 2;
    plan.vmm.access.overlap = true;
    const auto result = run_guest(plan);
    CHECK_EQUAL(result->stop_reason, "");
    CHECK_EQUAL(result->wrong_words, 0u);
    CHECK_EQUAL((*result)[Counter::memory_errors], 512u);
    CHECK_EQUAL(result->refused, 512u);
    for (const auto& vmm : result->vmms) CHECK_EQUAL(vmm->page_states()[static_cast<std::size_t>(PageState::poisoned)], 256u);
    plan.vmm.access.overlap = false;  // each vCPU meets half of it, and the other half is in its mapping all the same
    const auto halves = run_guest(plan);
    CHECK_EQUAL((*halves)[Counter::memory_errors], 256u);
    for (const auto& vmm : halves->vmms) CHECK_EQUAL(vmm->page_states()[static_cast<std::size_t>(PageState::poisoned)], 256u);
  }
}

TEST("resolving around a fault stops at a poisoned neighbour") {
  for (const char* strategy : kResolving)
    for (const MemoryType memory : {MemoryType::shmem, MemoryType::anon}) {
      GuestPlan plan = poisoned(strategy, memory, false);
      plan.kinds = {Kind::absent, Kind::absent, Kind::absent, Kind::poisoned, Kind::absent};
      plan.guest.request_pages = 8;
      if (std::string(strategy) == "uffd_wait") plan.server.fault_around_pages = 8;
      const auto result = run_guest(plan);
      CHECK_EQUAL(result->stop_reason, "");
      CHECK_EQUAL(result->wrong_words, 0u);
      CHECK_EQUAL((*result)[Counter::memory_errors], 205u);
      CHECK_EQUAL(result->refused, 205u);
      CHECK_EQUAL(result->pages_resolved, 819u);
    }
}

TEST("bookkeeping by EEXIST alone un-poisons pages, which the full verification finds, and the record prevents") {
  for (const char* strategy : {"no_uffd_wait", "no_slow_gup"})
    for (const MemoryType memory : {MemoryType::shmem, MemoryType::anon}) {
      GuestPlan plan = poisoned(strategy, memory, true);
      plan.vmm.options["page_record"] = kEexistOnly;
      const auto result = run_guest(plan);
      CHECK_EQUAL(result->stop_reason, "");
      CHECK_EQUAL((*result)[Counter::memory_errors], 0u);
      CHECK_EQUAL(result->refused, 0u);
      CHECK(result->wrong_words >= 256u * 512);
    }
}

TEST("an exit that comes as populate's error is answered like one that comes as a signal") {
  for (const bool when_resolved : {false, true}) {
    GuestPlan plan = poisoned("no_uffd_wait", MemoryType::shmem, when_resolved);
    plan.vmm.options["exit_via"] = 1;
    const auto result = run_guest(plan);
    CHECK_EQUAL(result->stop_reason, "");
    CHECK_EQUAL(result->wrong_words, 0u);
    CHECK_EQUAL(result->pages_resolved, 768u);
    CHECK_EQUAL((*result)[Counter::memory_errors], 256u);
    CHECK_EQUAL(result->refused, 256u);
    CHECK_EQUAL(result->server[Counter::events], 0u);
  }
}

TEST("every trip has one outcome and every event one answer, whatever was raced") {
  for (const char* strategy : kResolving)
    for (const std::uint32_t around : {1u, 8u}) {
      GuestPlan plan = poisoned(strategy, MemoryType::shmem, false);
      plan.kinds = {Kind::poisoned, Kind::minor, Kind::absent, Kind::hit};
      plan.guest.vcpus = 4;
      plan.guest.vcpus_per_vmm = 2;
      plan.guest.request_pages = around;
      plan.vmm.access.overlap = true;
      plan.server.readers = 3;
      const auto result = run_guest(plan);
      const Counters& vcpus = result->vcpus;
      const Counters& server = result->server;
      CHECK_EQUAL(result->stop_reason, "");
      CHECK_EQUAL(result->wrong_words, 0u);
      CHECK_EQUAL(vcpus[Counter::trips], vcpus[Counter::trips_resolved] + vcpus[Counter::trips_lost] +
                                             vcpus[Counter::resolved_again] + vcpus[Counter::populate_ok] +
                                             vcpus[Counter::retries] + vcpus[Counter::memory_errors] +
                                             vcpus[Counter::trips_stopped]);
      CHECK_EQUAL(server[Counter::events], server[Counter::events_resolved] + server[Counter::resolved_again] +
                                               server[Counter::events_lost] + server[Counter::events_poisoned] +
                                               server[Counter::events_dropped]);
      CHECK_EQUAL(vcpus[Counter::memory_errors], 4u * 256);
      if (std::string(strategy) == "populate") CHECK(server[Counter::populate_waits] > 0);
      for (const auto& vmm : result->vmms) CHECK_EQUAL(vmm->page_states()[static_cast<std::size_t>(PageState::in_flight)], 0u);
    }
}

TEST("the control run touches nothing, resolves nothing and lasts as long as asked") {
  for (const char* strategy : kResolving) {
    GuestPlan plan;
    plan.vmm.strategy = strategy;
    plan.vmm.access.order = "none";
    plan.vmm.access.hold_ns = 50'000'000;
    const auto result = run_guest(plan);
    CHECK_EQUAL(result->stop_reason, "");
    CHECK_EQUAL(result->pages_resolved, 0u);
    CHECK_EQUAL(result->server[Counter::events], 0u);
    for (const auto& vcpu : result->vmms[0]->vcpus())
      CHECK(static_cast<double>(vcpu->end() - vcpu->start()) / Clock::get().ticks_per_s() >= 0.05);
  }
}
