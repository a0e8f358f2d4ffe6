// Rounds: each begins from the same page states, and what was counted and measured is the sum of all of them.
#include <mutex>

#include "check.hpp"
#include "disturbed_guest.hpp"
#include "vcpu/engine.hpp"
#include "vcpu/vcpu.hpp"

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

/// Pages that a vCPU's record had as unresolved, each time it was made ready for a round.
std::vector<std::uint64_t> g_ready;
std::mutex g_ready_mutex;

class WatchedSeat final : public Engine::Seat {
 public:
  WatchedSeat(std::unique_ptr<Engine::Seat> seat, Vcpu& vcpu) : seat_(std::move(seat)), vcpu_(vcpu) {}
  void begin_round() override {
    std::uint64_t unresolved = 0;
    for (std::uint64_t page = 0; page < vcpu_.vmm().guest.pages(); ++page)
      unresolved += vcpu_.vmm().resolver.record().state(page) == PageState::unresolved ? 1 : 0;
    const std::lock_guard lock(g_ready_mutex);
    g_ready.push_back(unresolved);
  }
  void walk() override { seat_->walk(); }

 private:
  std::unique_ptr<Engine::Seat> seat_;
  Vcpu& vcpu_;
};

class WatchedThreads final : public Engine {
 public:
  explicit WatchedThreads(const EngineSetup& setup) : threads_(engine_info("thread").make(setup)) {}
  std::unique_ptr<Seat> enter(Vcpu& vcpu) override { return std::make_unique<WatchedSeat>(threads_->enter(vcpu), vcpu); }
  void kick(std::uint32_t vcpu, pthread_t thread) noexcept override { threads_->kick(vcpu, thread); }

 private:
  std::unique_ptr<Engine> threads_;
};

const RegisterEngine watched({
    .name = "watched",
    .summary = "threads, watched as they are made ready for a round",
    .make = [](const EngineSetup& setup) -> std::unique_ptr<Engine> { return std::make_unique<WatchedThreads>(setup); },
});

}  // namespace

TEST("an engine is made ready for each round, on every vCPU, when the page states are prepared and no vCPU walks yet") {
  GuestPlan plan = in_rounds("no_uffd_wait", 3);
  plan.vmm.engine = "watched";
  g_ready.clear();
  check_ended_well(*run_guest(plan));
  CHECK_EQUAL(g_ready.size(), 3u * 2);
  for (const std::uint64_t unresolved : g_ready) CHECK_EQUAL(unresolved, 256u);
}

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

TEST("the mapping of devices is empty when a round begins: what they touch is resolved, and nothing is resolved again") {
  GuestPlan plan = in_rounds("no_uffd_wait", 4);
  plan.vmm.access.overlap = true;
  plan.vmm.access.rate_per_s = 5000.0 / static_cast<double>(slowness());  // time for devices to touch most pages in each round
  plan.vmm.disturb.devices = {.threads = 1, .second_mapping = true};
  const auto result = run_guest(plan);
  check_ended_well(*result);
  CHECK_EQUAL(result->vmms[0]->vcpus()[0]->rounds().size(), 4u);
  CHECK(result->server[Counter::device_resolved] > 256);
  CHECK_EQUAL(result->server[Counter::resolved_again], 0u);
}

TEST("a page that is to be absent has no contents when a round begins, be they in the page cache or said to be") {
  const Guest guest({.region_bytes = 16 * 4096});
  const Mapping alias = Mapping::shared(guest.region_fd(), 16 * 4096);
  std::vector<std::uint8_t> kinds(16, static_cast<std::uint8_t>(Kind::absent));
  kinds[9] = static_cast<std::uint8_t>(Kind::minor);
  CHECK_EQUAL(fill(guest, kinds).unprepared, 0u);
  for (const std::uint64_t page : {3u, 5u}) {
    CHECK(guest.claim_fetch(page));
    guest.set_complete(page);
  }
  guest.contents().fill(5, alias.data() + 5 * 4096);
  guest.contents().fill(6, alias.data() + 6 * 4096);
  CHECK_EQUAL(refill(guest).unprepared, 0u);
  for (const std::uint64_t page : {3u, 5u, 6u}) {
    CHECK(!guest.complete(page));
    CHECK(guest.claim_fetch(page));
  }
  CHECK(guest.complete(9));
}

TEST("a VMM process whose round is over waits for one whose vCPUs are at work, and not for one that stands still") {
  for (const bool thinks : {true, false}) {
    const Guest guest({.region_bytes = 16 * 4096, .vcpus = 2, .vcpus_per_vmm = 1});
    guest.vcpu(1).stage.store(thinks ? Stage::thinking : Stage::touching);
    bool met = false;
    const std::uint64_t began = Clock::monotonic_ns();
    std::thread first([&] { met = meet(guest, 1, 0.1, "holding the disturbances"); });
    if (thinks) {
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
      meet(guest, 1, 0.1, "holding the disturbances");
    }
    first.join();
    CHECK_EQUAL(met, thinks);
    const std::string stuck = "stuck: between rounds, 1 of 2 VMM processes have not finished: holding the disturbances";
    CHECK_EQUAL(guest.stop_reason(), thinks ? "" : stuck);
    CHECK(thinks || Clock::monotonic_ns() - began > 1'000'000'000);  // the watchdog of the one that stands still comes first
  }
}

TEST("no round begins while a page of the devices' mapping is in flight") {
  GuestPlan plan = in_rounds("no_uffd_wait", 2);
  plan.vmm.watchdog_s = 1.0;
  plan.vmm.disturb.devices = {.threads = 1, .rate_per_s = 0.001, .second_mapping = true};  // no access within the test
  const Guest guest(plan.guest);
  CHECK_EQUAL(fill_as_planned(guest, plan), 0u);
  PageServer server(guest, {.readers = 2});
  const auto vmm = open_vmm(guest, server, plan, 0);
  vmm->prepare();
  CHECK(vmm->device_mapping()->pages().claim(3, PageRecord::reader_claim(0)));
  std::thread serving([&] { server.serve(); });
  vmm->run();
  server.stop();
  serving.join();
  CHECK_EQUAL(guest.stop_reason(), "stuck: between rounds, the page server has not answered every event");
}

TEST("what a killed page server had not counted is credited in each round for itself") {
  GuestPlan plan = in_rounds("uffd_wait", 2);
  plan.guest.gated = true;
  plan.vmm.access.order = "none";
  plan.vmm.access.hold_ns = 1'000'000;
  plan.vmm.vcpus = plan.guest.vcpus;
  const Guest guest(plan.guest);
  CHECK_EQUAL(fill_as_planned(guest, plan), 0u);
  Vmm vmm(guest, plan.vmm);
  vmm.prepare();
  guest.succeed_server();
  const Mapping bytes = Mapping::shared(vmm.record_fd(), guest.pages());
  const PageRecord record(reinterpret_cast<std::atomic<std::uint8_t>*>(bytes.data()));
  std::thread running([&] { vmm.run(); });
  bool good = true;
  for (std::uint32_t round = 1; round <= 2; ++round) {
    good &= guest.wait_armed(10'000'000'000);
    for (std::uint64_t page = round; page < 3; ++page) good &= record.resolve_unasked(page);  // installed, and then came the end
    guest.release(0, round);
    good &= wait_finished(guest, round, 10'000'000'000) != 0;
    decide(guest, round, round < 2);
  }
  running.join();
  vmm.finish();
  CHECK(good);
  CHECK_EQUAL(guest.stop_reason(), "");
  CHECK_EQUAL(guest.vcpu(0).resolved_by_reader.load(), 3u);
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
