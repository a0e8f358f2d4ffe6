// The pace of a disturbance: never ahead of its rate, behind it by no more than is made up for, and none of what it rested.
#include <thread>

#include "disturb/disturbance.hpp"
#include "disturbed_guest.hpp"

using namespace uffd;

namespace {

double seconds_of(Ticks ticks) { return static_cast<double>(ticks) / Clock::get().ticks_per_s(); }

}  // namespace

TEST("a disturbance that has fallen far behind makes up for a tenth of a second and no more") {
  const Guest guest({.region_bytes = 16 * 4096});
  DisturbControl control;
  Disturber disturber(guest, control, 1000.0);  // due since the clock began
  const Ticks began = Clock::get().now();
  for (int unit = 0; unit < 400; ++unit) CHECK(disturber.next());
  CHECK(seconds_of(Clock::get().now() - began) > 0.29);
}

TEST("between rounds a disturbance rests, and makes nothing up for it") {
  GuestPlan plan = disturbed("uffd_wait");
  plan.vmm.rounds = {.measure_s = 3600.0, .limit = 4};
  plan.vmm.record_capacity = 1 << 14;
  plan.vmm.access.accesses = 400;
  plan.vmm.disturb.mmap_writers = {.threads = 1, .rate_per_s = 5000, .map_kib = 4};
  const auto result = run_guest(plan);
  check_ended_well(*result);
  const auto& thread = result->vmms[0]->disturbers()[0];
  CHECK(thread.work->rested > 0);
  CHECK(static_cast<double>(thread.work->done) <= 5000.0 * seconds_of(thread.ended - thread.began - thread.work->rested) + 1.0);
}

TEST("what a VMM process's balloon removes from the memfd are its own pages, so no page has two") {
  GuestPlan plan;
  plan.vmm.strategy = "uffd_wait";
  plan.kind = Kind::hit;
  plan.guest.region_bytes = 64 * 4096;
  plan.guest.vcpus_per_vmm = 1;
  plan.server.readers = 2;
  plan.vmm.access.order = "none";
  plan.vmm.access.hold_ns = 100'000'000;
  plan.vmm.disturb.balloon = {.rate_per_s = 5000, .method = "remove", .track_removes = true};
  const auto result = run_guest(plan);
  check_ended_well(*result);
  for (std::uint32_t vmm = 0; vmm < 2; ++vmm) {
    const Mapping bytes = Mapping::shared(result->vmms[vmm]->record_fd(), 64);
    const PageRecord record(reinterpret_cast<std::atomic<std::uint8_t>*>(bytes.data()));
    std::uint64_t dropped = 0;
    for (std::uint64_t page = 0; page < 64; ++page) {
      if (record.state(page) != PageState::discarded) continue;
      ++dropped;
      CHECK_EQUAL(page % 2, vmm);
    }
    CHECK(dropped > 0);
  }
}

TEST("a balloon leaves pages alone that are poisoned, in the record or behind it") {
  for (const bool when_resolved : {false, true}) {
    GuestPlan plan;
    plan.vmm.strategy = "uffd_wait";
    plan.kinds = {Kind::poisoned, Kind::hit};
    plan.guest.region_bytes = 64 * 4096;
    plan.guest.poisoned_when_resolved = when_resolved;
    plan.vmm.access.order = "none";
    plan.vmm.access.hold_ns = 100'000'000;
    plan.vmm.disturb.balloon = {.rate_per_s = 5000, .method = "dontneed", .track_removes = true};
    const auto result = run_guest(plan);
    check_ended_well(*result);
    CHECK((*result)[Counter::pages_dropped] > 0);
    CHECK_EQUAL(result->refused, when_resolved ? 32u : 0u);
  }
}
