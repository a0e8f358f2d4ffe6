// Disturbances and prefetch beside real vCPUs. Pages are all mapped at first: what faults was dropped, and faults only because
// KVM's MMU notifier takes the stage-2 entry away with the page.
#include "disturbed_guest.hpp"
#include "kvm_guest.hpp"

using namespace uffd;

namespace {

constexpr const char* kDisturbed[] = {"uffd_wait", "no_uffd_wait"};

// Every strategy of real vCPUs, in guests of both modes; an emulated one takes ten times as long over its accesses.
template <class Check>
void each(GuestPlan (*plan_for)(const char* strategy), const Check& check) {
  for (const char* strategy : kDisturbed) {
    const GuestPlan plan = on_kvm(plan_for(strategy));
    const bool drops = plan.vmm.disturb.balloon.rate_per_s > 0;
    const auto enough = [drops](const GuestResult& result) { return !drops || dropped_and_touched(result); };
    check(strategy, *run_until(plan, enough));
    GuestPlan emulated = in_kernel_mode(on_kvm(plan_for(strategy)));
    emulated.vmm.access.accesses /= 4;
    emulated.vmm.access.rate_per_s /= 4;
    check(strategy, *run_until(emulated, enough));
  }
}

std::uint64_t contents_lost(const GuestResult& result) {
  return result[Counter::contents_lost] + result.server[Counter::contents_lost];
}

}  // namespace

TEST("kvm: what a tracked balloon drops leaves the stage-2 tables, is discarded, and is resolved again") {
  needs_stamps();
  std::string method = "dontneed";
  const auto check = [&method](const char* strategy, const GuestResult& result) {
    check_ended_well(result);
    CHECK(result[Counter::pages_dropped] > 0);
    CHECK_EQUAL(result.server[Counter::removes], result[Counter::pages_dropped]);
    CHECK_EQUAL(result.server[Counter::pages_discarded], result[Counter::pages_dropped]);
    CHECK_EQUAL(result[Counter::memory_errors], 0u);
    CHECK_EQUAL(result.pages_resolved, 0u);  // each had been resolved before
    check_gone(result, method);
    CHECK(result.recorded > 0);
    const bool exits = std::string(strategy) == "no_uffd_wait";
    CHECK_EQUAL(result[Counter::trips] > 0, exits);
    CHECK_EQUAL(result.server[Counter::events] > 0, !exits);
  };
  each([](const char* strategy) { return with_balloon(strategy, MemoryType::shmem, "dontneed", true); }, check);
  each([](const char* strategy) { return with_balloon(strategy, MemoryType::anon, "dontneed", true); }, check);
  method = "remove";
  each([](const char* strategy) { return with_balloon(strategy, MemoryType::shmem, "remove", true); },
       [&check](const char* strategy, const GuestResult& result) {
         check(strategy, result);
         CHECK(contents_lost(result) > 0);
       });
}

TEST("kvm: what a balloon drops unsaid is found gone where its minor fault comes again") {
  needs_stamps();
  each([](const char* strategy) { return with_balloon(strategy, MemoryType::shmem, "dontneed", false); },
       [](const char*, const GuestResult& result) {
         check_ended_well(result);
         CHECK(result[Counter::pages_dropped] > 0);
         CHECK_EQUAL(result.server[Counter::removes], 0u);
         CHECK_EQUAL(result[Counter::memory_errors], 0u);
         CHECK(result[Counter::trips] + result.server[Counter::events] > 0);  // what sleeps on a resolved page leaves no record
       });
  each([](const char* strategy) { return with_balloon(strategy, MemoryType::shmem, "punch", true); },
       [](const char*, const GuestResult& result) {
         check_ended_well(result);
         CHECK(result[Counter::pages_dropped] > 0);
         CHECK_EQUAL(result.server[Counter::removes], 0u);
         CHECK(contents_lost(result) > 0);
       });
}

TEST("kvm: hazard 1: an anonymous page that was dropped unsaid is a machine check in the guest, though nothing is poisoned") {
  needs_stamps();
  each([](const char* strategy) { return with_balloon(strategy, MemoryType::anon, "dontneed", false); },
       [](const char* strategy, const GuestResult& result) {
         check_ended_well(result);
         const bool exits = std::string(strategy) == "no_uffd_wait";
         CHECK_EQUAL(result[Counter::memory_errors] > 0, exits);
         std::uint64_t injected = 0;
         for (const auto& vcpu : result.vmms[0]->vcpus())
           for (std::uint64_t i = 0; i < vcpu->recorded(); ++i)
             injected += vcpu->records()[i].outcome == FaultOutcome::memory_error;
         CHECK_EQUAL(injected, result[Counter::memory_errors]);
       });
}

TEST("kvm: a balloon and absent pages in blocks around faults: each page is resolved once, whatever was dropped between") {
  needs_stamps();
  each(
      [](const char* strategy) {
        GuestPlan plan = with_balloon(strategy, MemoryType::shmem, "remove", true);
        plan.guest.request_pages = 8;
        plan.kind = Kind::absent;
        plan.vmm.access.accesses = 4000;  // every block is touched
        return plan;
      },
      [](const char*, const GuestResult& result) {
        check_ended_well(result);
        CHECK(result[Counter::pages_dropped] > 0);
        CHECK_EQUAL(result.pages_resolved, 256u);
        check_gone(result, "remove");
      });
}

TEST("kvm: hazard 6: a device beside real vCPUs gets EFAULT only on a mapping that refuses to sleep") {
  needs_stamps();
  for (const bool second : {false, true})
    for (const char* strategy : kDisturbed) {
      GuestPlan plan = on_kvm(disturbed(strategy));
      plan.kind = Kind::minor;
      plan.vmm.access.accesses = 100;
      plan.vmm.access.rate_per_s = 500;
      plan.vmm.disturb.devices = {.threads = 2, .rate_per_s = 4000, .second_mapping = second};
      const auto result = run_guest(plan);
      check_ended_well(*result);
      CHECK((*result)[Counter::device_accesses] > 0);
      const bool refuses = std::string(strategy) == "no_uffd_wait" && !second;
      CHECK_EQUAL((*result)[Counter::device_refused] > 0, refuses);
      CHECK_EQUAL(result->server[Counter::device_waits] > 0, !refuses);
    }
}

TEST("kvm: beside writers of the mmap_lock real vCPUs resolve every page once") {
  needs_stamps();
  each(
      [](const char* strategy) {
        GuestPlan plan = disturbed(strategy);
        plan.kind = Kind::minor;
        plan.vmm.access.accesses = 4000;  // every page is touched
        plan.vmm.disturb.mmap_writers = {.threads = 2, .rate_per_s = 2000, .map_kib = 64};
        return plan;
      },
      [](const char*, const GuestResult& result) {
        check_ended_well(result);
        CHECK_EQUAL(result.pages_resolved, 256u);
        for (const auto& thread : result.vmms[0]->disturbers()) CHECK(thread.work->done > 0);
      });
}

TEST("kvm: a background stream and real vCPUs share the pages out, whatever they raced for") {
  needs_stamps();
  for (const MemoryType memory : {MemoryType::shmem, MemoryType::anon})
    for (const char* strategy : kDisturbed) {
      GuestPlan plan = on_kvm();
      plan.vmm.strategy = strategy;
      plan.guest.memory = memory;
      plan.guest.vcpus = plan.guest.vcpus_per_vmm = 4;
      plan.kind = Kind::absent;
      plan.server.readers = 2;
      plan.server.prefetch.name = "order";
      plan.vmm.access.overlap = true;
      const auto result = run_guest(plan);
      check_ended_well(*result);
      CHECK_EQUAL(result->verified, 1024u);
      CHECK_EQUAL(result->pages_resolved + result->server[Counter::prefetched_pages], 1024u);
      CHECK(result->server[Counter::prefetched_pages] > 0);
    }
}

TEST("kvm: a prefetched working set leaves no page to fault on to real vCPUs that touch nothing else") {
  needs_stamps();
  each(
      [](const char* strategy) {
        GuestPlan plan = disturbed(strategy);
        plan.kind = Kind::absent;
        plan.guest.vcpus = plan.guest.vcpus_per_vmm = 1;
        plan.vmm.access.order = "trace";
        plan.vmm.access.trace = {5, 6, 7, 200, 3};
        plan.vmm.access.accesses = 0;
        plan.vmm.access.rate_per_s = 0;
        plan.vmm.access.think_ns = 20'000'000;  // after each, so that the stream is done before the last
        plan.server.prefetch.name = "working_set";
        plan.server.prefetch.pages = {3, 200, 7, 6, 5};
        return plan;
      },
      [](const char*, const GuestResult& result) {
        check_ended_well(result);
        CHECK_EQUAL(result.pages_resolved + result.server[Counter::prefetched_pages], 5u);
        CHECK(result.server[Counter::prefetched_pages] > 0);
        CHECK_EQUAL(result.verified, 5u);
      });
}
