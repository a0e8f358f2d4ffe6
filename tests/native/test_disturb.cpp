// What goes on beside the vCPUs, and the hazards that come from it: shown to happen, and survived.
#include <sys/mman.h>
#include <unistd.h>

#include <thread>

#include "check.hpp"
#include "disturbed_guest.hpp"
#include "kernel/error.hpp"

using namespace uffd;

namespace {

// A page may go between the look at the record and the populate, for no event can come before it: 3 of 144,000 drops on a busy
// machine, at most one a run. What tracking takes away is every other sleep, and a UFFD_FEATURE_SIGBUS mapping has none.
void check_hardly_slept(const GuestResult& result, const std::string& strategy) {
  const std::uint64_t waits = result.server[Counter::populate_waits];
  if (strategy == "no_slow_gup")
    CHECK(waits * 100 <= result[Counter::pages_dropped] + 200);
  else
    CHECK_EQUAL(waits, 0u);
}

}  // namespace

TEST("what a tracked balloon drops is discarded and resolved again, without a sleep in a populate or a memory error") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait", "no_slow_gup"})
    for (const auto& [memory, method] : {std::pair{MemoryType::shmem, "dontneed"}, std::pair{MemoryType::shmem, "remove"},
                                         std::pair{MemoryType::anon, "dontneed"}}) {
      GuestPlan plan = with_balloon(strategy, memory, method, true);
      plan.server.readers = 2;
      const auto result = run_until(plan, dropped_and_touched);
      check_ended_well(*result);
      CHECK((*result)[Counter::pages_dropped] > 0);
      CHECK_EQUAL(result->server[Counter::removes], (*result)[Counter::pages_dropped]);
      CHECK_EQUAL(result->server[Counter::pages_discarded], (*result)[Counter::pages_dropped]);
      check_hardly_slept(*result, strategy);
      CHECK_EQUAL((*result)[Counter::memory_errors], 0u);
      CHECK_EQUAL(result->pages_resolved, 0u);  // each had been resolved before
      CHECK_EQUAL(result->guest_pages_resolved, 0u);
      check_gone(*result, method);
      CHECK(result->recorded > 0);
      if (std::string(method) == "remove") CHECK((*result)[Counter::contents_lost] + result->server[Counter::contents_lost] > 0);
    }
}

TEST("a tracked balloon and blocks around faults: a page that is about to be dropped is not taken for resolved") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait", "no_slow_gup"}) {
    GuestPlan plan = with_balloon(strategy, MemoryType::shmem, "remove", true);
    plan.guest.request_pages = 8;
    plan.kind = Kind::absent;
    const auto result = run_until(plan, dropped_and_touched);
    check_ended_well(*result);
    CHECK((*result)[Counter::pages_dropped] > 0);
    CHECK_EQUAL(result->pages_resolved, 256u);
    check_gone(*result, "remove");
    if (std::string(strategy) != "uffd_wait") check_hardly_slept(*result, strategy);
  }
}

TEST("hazard 1: what a balloon drops unsaid makes no_slow_gup sleep in its own populate, and a reader finds it there") {
  for (const MemoryType memory : {MemoryType::shmem, MemoryType::anon}) {
    const auto waited = [](const GuestResult& of) { return of.server[Counter::populate_waits] > 0; };
    const auto result = run_until(with_balloon("no_slow_gup", memory, "dontneed", false), waited);
    check_ended_well(*result);
    CHECK(result->server[Counter::populate_waits] > 0);
    CHECK_EQUAL(result->server[Counter::removes], 0u);
  }
}

TEST("hazard 1: and no_uffd_wait takes it for a memory error, though no page is poisoned") {
  const auto met = [](const GuestResult& of) { return of[Counter::memory_errors] > 0; };
  const auto result = run_until(with_balloon("no_uffd_wait", MemoryType::anon, "dontneed", false), met);
  check_ended_well(*result);
  CHECK((*result)[Counter::memory_errors] > 0);
  CHECK(result->gone > 0);
}

TEST("hazard 1: with no reader the watchdog finds the vCPU in its populate") {
  GuestPlan plan = with_balloon("no_slow_gup", MemoryType::shmem, "dontneed", false);
  plan.vmm.watchdog_s = 1.0;
  const auto result = run_guest(plan, false);
  CHECK(result->stop_reason.find("is resolved, stage: populating") != std::string::npos);
}

TEST("hazard 4: a stale stage-2 entry falls back to sleeping, is counted, and nothing hangs") {
  GuestPlan plan = with_balloon("no_slow_gup", MemoryType::shmem, "dontneed", false);
  plan.vmm.disturb.balloon.stale_stage2 = true;
  const auto result = run_until(plan, [](const GuestResult& of) { return of.server[Counter::stray_waits] > 0; });
  check_ended_well(*result);
  CHECK(result->server[Counter::stray_waits] > 0);
}

TEST("hazard 5: while a remove event is unread resolving says EAGAIN, for as many tries as were asked for, and then goes on") {
  const Mapping memory = Mapping::anonymous(16 * 4096, 4096);
  Userfaultfd uffd(UFFD_FEATURE_EVENT_REMOVE);
  uffd.register_range(memory.address(), memory.bytes(), UFFDIO_REGISTER_MODE_MISSING);
  std::vector<std::atomic<std::uint8_t>> bytes(16);
  const Resolver resolver({{&uffd, memory.address(), 0, 16}}, PageRecord(bytes.data()), {.memory = MemoryType::anon}, 1);
  const std::vector<std::byte> contents(4096);
  Counters counters;
  const auto install = [&](std::uint64_t page, int tries) {
    const PageRun run = resolver.claim(page, PageRecord::vcpu_claim());
    return resolver.install(run, {.wanted = page, .from = contents.data(), .tries = tries}, counters);
  };
  CHECK_EQUAL(install(0, 0).pages, 1u);
  std::thread dropper([&] { ::madvise(memory.data(), 4096, MADV_DONTNEED); });
  while (install(5, 1).end != Installed::End::changing) {  // the dropper is not there yet
    bytes[5] = 0;
    ::usleep(1000);
  }
  counters = Counters();
  CHECK(install(9, 7).end == Installed::End::changing);
  CHECK_EQUAL(counters[Counter::eagain_changing], 7u);
  CHECK(resolver.record().state(9) == PageState::unresolved);
  uffd_msg message;
  CHECK_EQUAL(::read(uffd.fd(), &message, sizeof message), static_cast<ssize_t>(sizeof message));
  CHECK_EQUAL(static_cast<int>(message.event), UFFD_EVENT_REMOVE);
  dropper.join();
  CHECK_EQUAL(install(9, 0).pages, 1u);
}

TEST("hazard 5: a remove event that is never read is the watchdog's business: no number of tries ends the run") {
  GuestPlan plan = with_balloon("no_uffd_wait", MemoryType::shmem, "dontneed", true);
  plan.kind = Kind::minor;
  plan.vmm.watchdog_s = 2.0;
  const auto result = run_guest(plan, false);
  CHECK((*result)[Counter::eagain_changing] > 0);
  CHECK((*result)[Counter::retries] > 0);
  CHECK(result->stop_reason.find("stuck: ") == 0);
  CHECK(result->stop_reason.find("stage: installing") != std::string::npos);
}

TEST("hazard 6: a device gets EFAULT on a mapping that refuses to sleep, and none on a second one that a reader serves") {
  for (const bool second : {false, true}) {
    GuestPlan plan = disturbed("no_uffd_wait");
    plan.kind = Kind::minor;
    plan.vmm.access.accesses = 100;
    plan.vmm.access.rate_per_s = 500;
    plan.vmm.disturb.devices = {.threads = 2, .rate_per_s = 4000, .second_mapping = second};
    const auto result = run_guest(plan);
    check_ended_well(*result);
    CHECK((*result)[Counter::device_accesses] > 0);
    CHECK_EQUAL((*result)[Counter::device_poisoned], 0u);
    if (second) {
      CHECK_EQUAL((*result)[Counter::device_refused], 0u);
      CHECK(result->server[Counter::device_waits] > 0);
      CHECK(result->server[Counter::device_resolved] > 0);
      CHECK((*result)[Counter::device_sleeps] > 0);
    } else {
      CHECK((*result)[Counter::device_refused] > 0);
      CHECK_EQUAL(result->server[Counter::device_waits], 0u);
    }
  }
}

TEST("devices are served by readers under strategies that exit by a probe, and what they resolve is not a vCPU's") {
  for (const char* strategy : {"uffd_wait", "no_slow_gup"})
    for (const MemoryType memory : {MemoryType::shmem, MemoryType::anon}) {
      GuestPlan plan = disturbed(strategy, memory);
      plan.kind = Kind::absent;
      plan.vmm.access.accesses = 4000;  // every page is touched
      plan.vmm.disturb.devices = {.threads = 2, .rate_per_s = 4000};
      const auto result = run_guest(plan);
      check_ended_well(*result);
      CHECK_EQUAL((*result)[Counter::device_refused], 0u);
      CHECK(result->server[Counter::device_waits] > 0);
      CHECK_EQUAL(result->pages_resolved + result->server[Counter::device_resolved], 256u);
    }
}

TEST("a device's access to a poisoned page fails, and is not counted as refused") {
  GuestPlan plan = disturbed("no_slow_gup");
  plan.kinds = {Kind::poisoned, Kind::minor};
  plan.vmm.disturb.devices = {.threads = 1, .rate_per_s = 3000};
  const auto result = run_guest(plan);
  check_ended_well(*result);
  CHECK((*result)[Counter::device_poisoned] > 0);
  CHECK_EQUAL((*result)[Counter::device_refused], 0u);
}

TEST("a device with a mapping of its own meets what the host has poisoned after it was resolved, and reads nothing of it") {
  GuestPlan plan = disturbed("no_uffd_wait");
  plan.kinds = {Kind::poisoned, Kind::minor};
  plan.guest.poisoned_when_resolved = true;
  plan.vmm.disturb.devices = {.threads = 1, .rate_per_s = 3000, .second_mapping = true};
  const auto result = run_guest(plan);
  check_ended_well(*result);
  CHECK((*result)[Counter::device_poisoned] > 0);
  CHECK_EQUAL((*result)[Counter::device_refused], 0u);
}

TEST("hazard 8: no event announces a punched hole: tracking or not, its page is found gone, and its contents are made again") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait", "no_slow_gup", "populate"}) {
    const auto lost = [](const GuestResult& of) { return of[Counter::contents_lost] + of.server[Counter::contents_lost] > 0; };
    const auto result = run_until(with_balloon(strategy, MemoryType::shmem, "punch", true), lost);
    check_ended_well(*result);
    CHECK((*result)[Counter::pages_dropped] > 0);
    CHECK_EQUAL(result->server[Counter::removes], 0u);
    CHECK((*result)[Counter::contents_lost] + result->server[Counter::contents_lost] > 0);
    if (std::string(strategy) == "no_slow_gup") CHECK(result->server[Counter::populate_waits] > 0);
  }
}

TEST("a second mapping of anonymous memory is refused, and so is punching it") {
  GuestPlan plan = disturbed("no_slow_gup", MemoryType::anon);
  plan.vmm.disturb.devices = {.threads = 1, .rate_per_s = 100, .second_mapping = true};
  std::string said;
  try {
    run_guest(plan);
  } catch (const ConfigError& error) {
    said = error.what();
  }
  CHECK(said.find("anonymous memory has one mapping only") != std::string::npos);
  said.clear();
  try {
    run_guest(with_balloon("no_slow_gup", MemoryType::anon, "punch", false));
  } catch (const ConfigError& error) {
    said = error.what();
  }
  CHECK(said.find("anonymous memory has none") != std::string::npos);
}

TEST("a drop whose remove event is not read ends with the run, whose reason names it") {
  GuestPlan plan = with_balloon("no_uffd_wait", MemoryType::shmem, "dontneed", true);
  plan.vmm.access.accesses = 10;
  plan.vmm.access.rate_per_s = 100;
  plan.vmm.watchdog_s = 1.0;
  const auto result = run_guest(plan, false);
  CHECK(result->stop_reason.find("stuck: ") == 0);
}

TEST("what a device finds once a stop has ended its sleep is no wrong word") {
  for (const bool second : {false, true}) {
    GuestPlan plan = disturbed("uffd_wait");
    plan.kind = Kind::absent;
    plan.vmm.disturb.devices = {.threads = 2, .rate_per_s = 3000, .second_mapping = second};
    plan.vmm.watchdog_s = 0.5;
    const auto result = run_guest(plan, false);
    CHECK(result->stop_reason.find("stuck: ") == 0);
    CHECK((*result)[Counter::device_accesses] > 0);
    CHECK_EQUAL(result->wrong_words, 0u);
  }
}

TEST("mmap writers map and unmap at the rate asked for, and the vCPUs go on") {
  GuestPlan plan = disturbed("no_slow_gup");
  plan.kind = Kind::minor;
  plan.vmm.access.accesses = 4000;  // every page is touched
  plan.vmm.disturb.mmap_writers = {.threads = 2, .rate_per_s = 2000, .map_kib = 64};
  const auto result = run_guest(plan);
  check_ended_well(*result);
  CHECK_EQUAL(result->pages_resolved, 256u);
  const auto& threads = result->vmms[0]->disturbers();
  CHECK_EQUAL(threads.size(), 2u);
  for (const auto& thread : threads) {
    const double seconds = static_cast<double>(thread.ended - thread.began) / Clock::get().ticks_per_s();
    CHECK(static_cast<double>(thread.work->done) <= 1000.0 * seconds + 1.0);
    CHECK(thread.work->done > 0);
  }
}
