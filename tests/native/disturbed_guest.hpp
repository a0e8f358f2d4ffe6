// Guests whose pages are touched, dropped and brought back at the same time, and what holds of them however that went.
#pragma once

#include "check.hpp"
#include "whole_guest.hpp"

// About 0.2 s of two vCPUs that touch the whole region at random, and a balloon that drops what they touch.
inline GuestPlan disturbed(const char* strategy, uffd::MemoryType memory = uffd::MemoryType::shmem) {
  GuestPlan plan;
  plan.vmm.strategy = strategy;
  plan.guest.memory = memory;
  plan.guest.region_bytes = 256 * 4096;
  plan.kind = uffd::Kind::hit;
  plan.vmm.access.order = "uniform";
  plan.vmm.access.overlap = true;
  plan.vmm.access.accesses = 4000 / slowness();
  plan.vmm.access.rate_per_s = 20'000.0 / static_cast<double>(slowness());
  plan.vmm.record_capacity = 8192;
  return plan;
}

inline GuestPlan with_balloon(const char* strategy, uffd::MemoryType memory, const char* method, bool track_removes) {
  GuestPlan plan = disturbed(strategy, memory);
  plan.vmm.disturb.balloon = {
      .rate_per_s = 3000.0 / static_cast<double>(slowness()), .method = method, .track_removes = track_removes};
  return plan;
}

/// Runs a guest until `enough` of the result is true: on a busy machine a disturbance may not get a CPU before the vCPUs have
/// ended.
template <class Enough>
std::unique_ptr<GuestResult> run_until(const GuestPlan& plan, const Enough& enough) {
  for (int tries = 1;; ++tries) {
    auto result = run_guest(plan);
    if (tries == 4 || enough(*result)) return result;
  }
}

/// Of a guest whose pages are all mapped at first.
inline bool dropped_and_touched(const GuestResult& result) {
  return result[uffd::Counter::pages_dropped] > 0 && result[uffd::Counter::trips] + result.server[uffd::Counter::events] > 0;
}

inline void check_ended_well(const GuestResult& result) {
  const uffd::Counters& vcpus = result.vcpus;
  const uffd::Counters& server = result.server;
  CHECK_EQUAL(result.stop_reason, "");
  CHECK_EQUAL(result.wrong_words, 0u);
  CHECK_EQUAL(vcpus[uffd::Counter::trips], vcpus[uffd::Counter::trips_resolved] + vcpus[uffd::Counter::trips_lost] +
                                               vcpus[uffd::Counter::resolved_again] + vcpus[uffd::Counter::populate_ok] +
                                               vcpus[uffd::Counter::retries] + vcpus[uffd::Counter::memory_errors] +
                                               vcpus[uffd::Counter::trips_stopped]);
  CHECK_EQUAL(server[uffd::Counter::events], server[uffd::Counter::events_resolved] + server[uffd::Counter::resolved_again] +
                                                 server[uffd::Counter::events_lost] + server[uffd::Counter::events_poisoned] +
                                                 server[uffd::Counter::events_dropped]);
  for (const auto& vmm : result.vmms) CHECK_EQUAL(vmm->page_states()[static_cast<std::size_t>(uffd::PageState::in_flight)], 0u);
}

/// What is recorded as resolved and is not there. MADV_REMOVE unmaps a page and then takes it out of the page cache: a resolve in
/// between succeeds, for a page that goes with no event. Every other tracked drop is announced before the page is resolved again.
inline void check_gone(const GuestResult& result, const std::string& method) {
  if (method == "remove")
    CHECK(result.gone * 100 <= result[uffd::Counter::pages_dropped] + 200);
  else
    CHECK_EQUAL(result.gone, 0u);
}
