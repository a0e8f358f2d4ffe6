#include <sys/mman.h>

#include <cstdlib>

#include "check.hpp"
#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"
#include "whole_guest.hpp"

using namespace uffd;

namespace {

// Of the contents of seed 0, the guest's own, in the folder the tests run in: a disk, where a page cache can be emptied.
class WrittenSnapshot {
 public:
  WrittenSnapshot() { write_snapshot(path_, kPages * kBasePageBytes, kBasePageBytes, 0); }
  ~WrittenSnapshot() { ::unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "baseline-snapshot-" + std::to_string(::getpid());
};

GuestPlan file_map(const WrittenSnapshot& file, bool cold) {
  GuestPlan plan;
  plan.guest.memory = MemoryType::file;
  plan.kind = Kind::absent;
  plan.vmm.strategy = "file_map";
  plan.vmm.snapshot = plan.server.source.file = file.path();
  plan.vmm.cold = plan.server.source.cold = cold;
  plan.server.source.name = "file";
  return plan;
}

GuestPlan eager(MemoryType memory, std::uint32_t populate_pages) {
  GuestPlan plan;
  plan.guest.memory = memory;
  plan.guest.request_pages = populate_pages;
  plan.kind = Kind::absent;
  plan.vmm.strategy = "eager";
  plan.vmm.watchdog_s = 20.0;
  return plan;
}

void check_ended_well(const GuestResult& result, std::uint64_t pages) {
  CHECK_EQUAL(result.stop_reason, "");
  CHECK_EQUAL(result.wrong_words, 0u);
  CHECK_EQUAL(result.unprepared, 0u);
  CHECK_EQUAL(result.pages_resolved, pages);
  CHECK_EQUAL(result.verified, pages);
  CHECK_EQUAL(result.server[Counter::events], 0u);
}

}  // namespace

TEST("a private mapping of the snapshot gives every page its contents, out of a cold and of a warm page cache") {
  const WrittenSnapshot file;
  for (const bool cold : {false, true}) {
    const auto result = run_guest(file_map(file, cold));
    check_ended_well(*result, kPages);
    CHECK_EQUAL(result->recorded, kPages);
    CHECK_EQUAL(result->prepared[static_cast<std::size_t>(Kind::absent)], kPages);
  }
}

TEST("what stays in the page cache although the snapshot was to be cold is counted") {
  const WrittenSnapshot file;
  GuestPlan plan = file_map(file, true);
  plan.server.source.cold = false;  // the page server warms what the VMM process expects cold
  CHECK_EQUAL(run_guest(plan)->unprepared, kPages);
}

TEST("writes into a private mapping leave the snapshot as it was") {
  const WrittenSnapshot file;
  GuestPlan plan = file_map(file, false);
  plan.vmm.access.read_share = 0.0;
  plan.guest.vcpus = 4;
  plan.guest.vcpus_per_vmm = 2;
  check_ended_well(*run_guest(plan), 2 * kPages / 2);
  check_snapshot(file.path(), kPages * kBasePageBytes, kBasePageBytes, 0);
}

TEST("a private mapping of a snapshot that is not there names the file") {
  const WrittenSnapshot file;
  GuestPlan plan = file_map(file, false);
  plan.vmm.snapshot = "no-such-snapshot";
  std::string said;
  try {
    run_guest(plan);
  } catch (const KernelError& error) {
    said = error.what();
  }
  CHECK(said.find("open of the snapshot no-such-snapshot") != std::string::npos);
}

TEST("eager brings in every page before the first access, and then nothing faults") {
  for (const MemoryType memory : {MemoryType::shmem, MemoryType::anon})
    for (const std::uint32_t populate_pages : {1u, 100u}) {
      GuestPlan plan = eager(memory, populate_pages);
      plan.guest.vcpus = plan.guest.vcpus_per_vmm = 4;
      const auto result = run_guest(plan);
      check_ended_well(*result, kPages);
      CHECK_EQUAL(result->recorded, 0u);
      CHECK_EQUAL(result->server[Counter::fetched_pages], kPages);
      for (const auto& vcpu : result->vmms[0]->vcpus()) {
        const auto& marks = vcpu->milestones().marks();
        const auto first = std::find_if(marks.begin(), marks.end(), [](const auto& mark) { return mark.accesses == 1; });
        CHECK(first != marks.end());
      }
    }
}

TEST("eager maps what is here already, in each VMM process, and asks for the rest once") {
  GuestPlan plan = eager(MemoryType::shmem, 64);
  plan.kinds = {Kind::minor, Kind::absent, Kind::hit, Kind::minor};
  plan.guest.vcpus = 4;
  const auto result = run_guest(plan);
  CHECK_EQUAL(result->stop_reason, "");
  CHECK_EQUAL(result->wrong_words, 0u);
  CHECK_EQUAL(result->pages_resolved, 2 * kPages * 3 / 4);
  CHECK_EQUAL(result->verified, 2 * kPages);
  CHECK_EQUAL(result->server[Counter::fetched_pages], kPages / 4);
}

TEST("devices of a guest that is restored at once begin when it is, and find no page that is not there") {
  for (const bool alone : {true, false}) {
    GuestPlan plan = eager(MemoryType::shmem, 16);
    plan.guest.vcpus_per_vmm = alone ? 2 : 1;
    plan.vmm.disturb.devices = {.threads = 2};
    plan.server.delay_us = 2000.0;  // a fetch: the restore takes a while
    plan.vmm.access.hold_ns = 300'000'000;
    const auto result = run_guest(plan);
    CHECK_EQUAL(result->stop_reason, "");
    CHECK_EQUAL(result->wrong_words, 0u);
    CHECK((*result)[Counter::device_accesses] != 0);
  }
}

TEST("eager without a page server is ended by the watchdog, its waiting vCPUs too") {
  GuestPlan plan = eager(MemoryType::shmem, 16);
  plan.guest.vcpus = plan.guest.vcpus_per_vmm = 3;
  plan.vmm.watchdog_s = 1.0;
  const auto result = run_guest(plan, false);
  CHECK(result->stop_reason.find("stuck: vCPU") == 0);
  CHECK_EQUAL(result->pages_resolved, 0u);
}

TEST("a vCPU stamps its first access, its last and some between, and the end of every pass") {
  for (const char* strategy : {"uffd_wait", "no_slow_gup", "null"}) {
    GuestPlan plan;
    plan.vmm.strategy = strategy;
    plan.vmm.access.passes = 2;
    const auto result = run_guest(plan);
    for (const auto& vcpu : result->vmms[0]->vcpus()) {
      const auto& marks = vcpu->milestones().marks();
      CHECK(marks.size() > 60 && marks.size() < 70);
      CHECK_EQUAL(marks.front().accesses, 1u);
      CHECK_EQUAL(marks.back().accesses, kPages / 2);
      for (std::size_t i = 1; i < marks.size(); ++i) {
        CHECK(marks[i - 1].at <= marks[i].at);
        CHECK(marks[i - 1].pages <= marks[i].pages);
      }
      CHECK_EQUAL(vcpu->pass_ends().size(), 2u);
      CHECK(marks.back().at <= vcpu->pass_ends()[0]);
      CHECK(vcpu->longest_fault() > 0);
    }
  }
}
