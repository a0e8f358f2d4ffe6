// Rounds: each begins from the same page states, and what was counted and measured is the sum of all of them.
#include "check.hpp"
#include "disturbed_guest.hpp"

using namespace uffd;

namespace {

GuestPlan in_rounds(const char* strategy, std::uint32_t rounds) {
  GuestPlan plan;
  plan.vmm.strategy = strategy;
  plan.vmm.rounds = {.measure_s = 3600.0, .limit = rounds};
  plan.vmm.record_capacity = 1 << 14;
  plan.guest.region_bytes = 256 * 4096;
  return plan;
}

}  // namespace

TEST("every round resolves every page, in each mapping, and counts each page of the guest once") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait", "no_slow_gup"})
    for (const Kind kind : {Kind::minor, Kind::absent}) {
      GuestPlan plan = in_rounds(strategy, 4);
      plan.kind = kind;
      plan.guest.vcpus_per_vmm = 1;
      plan.vmm.access.overlap = true;
      const auto result = run_guest(plan);
      check_ended_well(*result);
      CHECK_EQUAL(result->pages_resolved, 4u * 2 * 256);
      CHECK_EQUAL(result->guest_pages_resolved, 4u * 256);
      CHECK_EQUAL(std::string(rounds_ended_name(*result->guest)), "rounds_limit");
      Ticks measured = 0;
      for (std::size_t round = 0; round < 4; ++round) {
        const auto& rounds = result->vmms[0]->vcpus()[0]->rounds();
        CHECK_EQUAL(rounds.size(), 4u);
        measured += rounds[round].end - rounds[round].start;
      }
      CHECK(result->guest->header().rounds.measured_ns.load() >= Clock::get().to_ns(measured) * 9 / 10);
    }
}

TEST("rounds beside a tracked balloon begin registered, with every page as it was prepared, and every drop is announced once") {
  GuestPlan plan = with_balloon("no_uffd_wait", MemoryType::shmem, "remove", true);
  plan.vmm.rounds = {.measure_s = 3600.0, .limit = 3};
  plan.vmm.record_capacity = 1 << 16;
  plan.vmm.access.accesses = 2000;
  plan.kinds = {Kind::hit, Kind::absent};
  const auto result = run_guest(plan);
  check_ended_well(*result);
  CHECK((*result)[Counter::pages_dropped] > 0);
  CHECK_EQUAL(result->server[Counter::removes], (*result)[Counter::pages_dropped]);
  for (const auto& vcpu : result->vmms[0]->vcpus()) CHECK_EQUAL(vcpu->rounds().size(), 3u);
  CHECK_EQUAL(result->pages_resolved, 3u * 128);
  CHECK_EQUAL(result->vmms[0]->unprepared(), 0u);
}

TEST("no round begins whose records have no room") {
  GuestPlan plan = in_rounds("no_uffd_wait", 1000);
  plan.guest.vcpus = plan.guest.vcpus_per_vmm = 1;
  plan.vmm.record_capacity = 900;  // three rounds of 256 faults, and an eighth to spare
  const auto result = run_guest(plan);
  check_ended_well(*result);
  CHECK_EQUAL(std::string(rounds_ended_name(*result->guest)), "records");
  CHECK_EQUAL(result->vmms[0]->vcpus()[0]->rounds().size(), 3u);
  CHECK_EQUAL((*result)[Counter::records_dropped], 0u);
}
