// What a fault brings along: neighbours whose contents are here, and none that the touched page would have to wait for.
#include "check.hpp"
#include "whole_guest.hpp"

using namespace uffd;

namespace {

/// Every second page of the blocks of 8 is absent; the vCPU touches only pages whose contents are here.
GuestPlan present_among_absent(const char* strategy) {
  GuestPlan plan;
  plan.vmm.strategy = strategy;
  plan.guest.vcpus = plan.guest.vcpus_per_vmm = 1;
  plan.guest.request_pages = 8;
  plan.kinds = {Kind::minor, Kind::minor, Kind::minor, Kind::absent, Kind::minor, Kind::absent, Kind::absent, Kind::minor};
  plan.server.delay_us = 1000.0;
  plan.vmm.access.order = "trace";
  for (std::uint32_t page = 0; page < 1024; ++page)
    if (plan.kinds[page % 8] == Kind::minor) plan.vmm.access.trace.push_back(page);
  return plan;
}

}  // namespace

TEST("a page whose contents are here waits for no absent neighbour: nothing is fetched, nothing is delayed") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait", "no_slow_gup"}) {
    const auto result = run_guest(present_among_absent(strategy));
    CHECK_EQUAL(result->stop_reason, "");
    CHECK_EQUAL(result->wrong_words, 0u);
    CHECK_EQUAL(result->pages_resolved, 1024u * 5 / 8);
    CHECK_EQUAL(result->server[Counter::delays], 0u);
    CHECK_EQUAL(result->server[Counter::fetched_pages], 0u);
    CHECK_EQUAL(result->server[Counter::requests], 0u);
  }
}

TEST("a run around a touched page ends at the first neighbour whose contents are not here") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait"}) {
    GuestPlan plan = present_among_absent(strategy);
    plan.vmm.access.trace = {1};
    const auto result = run_guest(plan);
    CHECK_EQUAL(result->stop_reason, "");
    CHECK_EQUAL(result->pages_resolved, 3u);  // 0, 1 and 2; page 3 is absent
    const PageStates states = result->vmms[0]->page_states();
    CHECK_EQUAL(states[static_cast<std::size_t>(PageState::resolved)], 3u);
    CHECK_EQUAL(states[static_cast<std::size_t>(PageState::in_flight)], 0u);
  }
}

TEST("an absent page brings its absent neighbours along with one fetch") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait", "no_slow_gup"}) {
    GuestPlan plan = present_among_absent(strategy);
    plan.vmm.access.trace = {5};
    const auto result = run_guest(plan);
    CHECK_EQUAL(result->stop_reason, "");
    CHECK_EQUAL(result->pages_resolved, 8u);
    CHECK_EQUAL(result->server[Counter::delays], 1u);
    CHECK_EQUAL(result->server[Counter::fetched_pages], 3u);
  }
}

TEST("the claim of a fetch around a page stops at a page that another thread fetches, and leaves that one alone") {
  GuestConfig config{.region_bytes = 16 * 4096, .vcpus = 1};
  const Guest guest(config);
  const Mapping alias = Mapping::shared(guest.region_fd(), config.region_bytes);
  const Source source(guest, alias.data(), {});
  CHECK(guest.claim_fetch(2));
  CHECK(guest.claim_fetch(6));
  guest.set_complete(6);
  std::vector<bool> mine;
  const PageRun part = source.take_around({0, 8}, 4, mine);
  CHECK_EQUAL(part.first, 3u);
  CHECK_EQUAL(part.count, 5u);
  CHECK((mine == std::vector<bool>{true, true, true, false, true}));
  CHECK(!guest.claim_fetch(7));
  CHECK(guest.claim_fetch(1));
  // Fetched by another thread: it comes without us, and so do the neighbours that are ours.
  const PageRun other = source.take_around({0, 3}, 2, mine);
  CHECK_EQUAL(other.first, 2u);
  CHECK_EQUAL(other.count, 1u);
  CHECK((mine == std::vector<bool>{false}));
}

TEST("a reader that wakes the fault's own page first fills its block afterwards, and nothing else changes") {
  for (const bool absent : {false, true}) {
    GuestPlan plan = present_among_absent("uffd_wait");
    plan.server.wake_first = true;
    plan.kinds.assign(8, absent ? Kind::absent : Kind::minor);
    plan.vmm.access.trace = {13, 3, 12};
    const auto result = run_guest(plan);
    CHECK_EQUAL(result->stop_reason, "");
    CHECK_EQUAL(result->wrong_words, 0u);
    CHECK_EQUAL(result->pages_resolved, 16u);
    CHECK_EQUAL(result->vmms[0]->page_states()[static_cast<std::size_t>(PageState::in_flight)], 0u);
    // The third touch may come before the rest of its block: then it is an event of its own, answered or woken.
    const auto& server = result->server;
    CHECK(server[Counter::events] == 2 || server[Counter::events] == 3);
    CHECK_EQUAL(server[Counter::events_resolved] + server[Counter::events_lost] + server[Counter::resolved_again],
                server[Counter::events]);
  }
}
