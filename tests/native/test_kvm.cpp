// Real guests through /dev/kvm: the same strategies, page server and records as the thread engine's, on real vCPUs.
#include <map>

#include "check.hpp"
#include "kernel/error.hpp"
#include "kvm/userfault_bits.hpp"
#include "kvm_guest.hpp"

using namespace uffd;

namespace {

constexpr const char* kStrategies[] = {"uffd_wait", "no_uffd_wait"};

GuestPlan kvm_plan(const char* strategy, std::uint32_t vcpus = 2, std::uint64_t pages = 256) {
  GuestPlan plan = on_kvm();
  plan.vmm.strategy = strategy;
  plan.vmm.watchdog_s = 20.0;
  plan.guest.region_bytes = pages * 4096;
  plan.guest.vcpus = plan.guest.vcpus_per_vmm = vcpus;
  return plan;
}

std::map<Exit, std::uint64_t> exits(const GuestResult& result) {
  std::map<Exit, std::uint64_t> counts;
  for (const auto& vmm : result.vmms)
    for (const auto& vcpu : vmm->vcpus())
      for (std::uint64_t i = 0; i < vcpu->recorded(); ++i) ++counts[vcpu->records()[i].exit];
  return counts;
}

void check_run(const GuestResult& result, std::uint64_t pages) {
  CHECK_EQUAL(result.stop_reason, "");
  CHECK_EQUAL(result.wrong_words, 0u);
  CHECK_EQUAL(result.unprepared, 0u);
  CHECK_EQUAL(result.pages_resolved, pages);
  CHECK_EQUAL(result.verified, pages);
  for (const auto& vmm : result.vmms)
    for (const auto& vcpu : vmm->vcpus()) {
      CHECK_EQUAL(vcpu->recorded(), vcpu->state().faults.load());
      for (std::uint64_t i = 0; i < vcpu->recorded(); ++i) {
        const FaultRecord& record = vcpu->records()[i];
        CHECK(record.raised != 0 || (!Clock::get().invariant() && record.delivered == 0));
        CHECK(record.raised <= record.resumed);
        CHECK(vcpu->start() != 0);
        if (record.delivered != 0) {
          CHECK(record.raised <= record.delivered.load());
          if (record.outcome == FaultOutcome::resolved) CHECK(record.delivered.load() <= record.resumed);
        }
      }
    }
}

}  // namespace

TEST("kvm: every strategy resolves every minor and absent page once, in guests of user and of kernel mode") {
  needs_kvm();
  for (const bool kernel : {false, true})
    for (const Kind kind : {Kind::minor, Kind::absent})
      for (const char* strategy : kStrategies) {
        GuestPlan plan = kvm_plan(strategy);
        plan.kind = kind;
        const auto result = run_guest(kernel ? in_kernel_mode(plan) : plan);
        check_run(*result, 256);
        CHECK_EQUAL(result->recorded, 256u);
        const bool waits = std::string(strategy) == "uffd_wait";
        CHECK_EQUAL((*result)[Counter::trips] >= 256u, !waits);
        CHECK_EQUAL(result->server[Counter::events] >= 256u, waits);
        CHECK_EQUAL(exits(*result)[Exit::none], waits ? 256u : 0u);
      }
}

TEST("kvm: without a userfaultfd KVM's own slow GUP maps the pages, and mapped pages fault under no strategy") {
  needs_kvm();
  check_run(*run_guest(kvm_plan("null")), 256);
  for (const char* strategy : {"null", "uffd_wait", "no_uffd_wait"}) {
    GuestPlan plan = kvm_plan(strategy);
    plan.kind = Kind::hit;
    const auto result = run_guest(plan);
    CHECK_EQUAL(result->stop_reason, "");
    CHECK_EQUAL(result->recorded, 0u);
    CHECK_EQUAL(result->verified, 256u);
    CHECK_EQUAL(result->wrong_words, 0u);
  }
}

TEST("kvm: an access that KVM itself makes for the guest is completed from the mmio exit, reads and writes alike") {
  needs_kvm();
  for (const double read_share : {1.0, 0.0}) {
    GuestPlan plan = in_kernel_mode(kvm_plan("no_uffd_wait", 1));
    plan.vmm.access.read_share = read_share;
    const auto result = run_guest(plan);
    check_run(*result, 256);
    // With hardware support the guest makes its accesses itself in kernel mode too.
    CHECK_EQUAL(exits(*result)[Exit::mmio] + exits(*result)[Exit::memory_fault] + exits(*result)[Exit::efault], 256u);
  }
}

TEST("kvm: writes, whole pages verified, and anonymous memory") {
  needs_kvm();
  for (const char* strategy : kStrategies) {
    GuestPlan plan = kvm_plan(strategy);
    plan.vmm.access.read_share = 0.0;
    plan.vmm.verify = "page";
    check_run(*run_guest(plan), 256);
    plan = kvm_plan(strategy);
    plan.guest.memory = MemoryType::anon;
    plan.guest.request_pages = 4;
    plan.kind = Kind::absent;
    check_run(*run_guest(plan), 256);
  }
}

TEST("a vCPU that reads a wrong word says which, as a thread and in guests of both modes; other words only of pages read whole") {
  needs_kvm();
  GuestPlan thread = kvm_plan("uffd_wait");
  thread.vmm.engine = "thread";
  for (const GuestPlan& base : {thread, kvm_plan("uffd_wait"), in_kernel_mode(kvm_plan("uffd_wait"))})
    for (const char* strategy : kStrategies)
      for (const bool whole : {false, true}) {
        GuestPlan plan = base;
        plan.vmm.strategy = strategy;
        plan.vmm.verify = whole ? "page" : "word";
        const Contents contents(plan.guest.contents_seed, 4096);
        const std::uint64_t touched = contents.touched_word(contents.base(3));
        plan.spoiled = {{3, touched}, {200, (contents.touched_word(contents.base(200)) + 1) % 512}};
        const auto result = run_guest(plan);
        const auto& vcpus = result->vmms.front()->vcpus();
        CHECK_EQUAL(vcpus[0]->wrong_words(), 1u);
        CHECK(vcpus[0]->first_wrong().find("page 3") != std::string::npos);
        CHECK_EQUAL(vcpus[1]->wrong_words(), whole ? 1u : 0u);
        if (whole) CHECK(vcpus[1]->first_wrong().find("page 200") != std::string::npos);
      }
}

TEST("kvm: overlapping vCPUs of two VMs lose races and nothing else, and 16 vCPUs in one VM run to the end") {
  needs_kvm();
  for (const char* strategy : kStrategies) {
    GuestPlan plan = kvm_plan(strategy, 4, 128);
    plan.guest.vcpus_per_vmm = 2;
    plan.vmm.access.overlap = true;
    plan.kind = Kind::absent;
    check_run(*run_guest(plan), 2 * 128);
    check_run(*run_guest(kvm_plan(strategy, 16, 128)), 128);
  }
}

TEST("kvm: several passes, an open loop and thinking are the guest's own") {
  needs_stamps();
  GuestPlan plan = kvm_plan("no_uffd_wait", 1, 64);
  plan.vmm.access.passes = 3;
  plan.vmm.access.rate_per_s = 5000;
  const auto result = run_guest(plan);
  check_run(*result, 64);
  const Vcpu& vcpu = *result->vmms[0]->vcpus()[0];
  CHECK_EQUAL(vcpu.state().accesses.load(), 192u);
  for (std::uint64_t i = 0; i < 64; ++i)
    CHECK(vcpu.records()[i].intended != 0 && vcpu.records()[i].intended <= vcpu.records()[i].raised);
  plan = kvm_plan("no_uffd_wait", 1, 16);
  plan.vmm.access.think_ns = 1'000'000;
  const auto thinking = run_guest(plan);
  check_run(*thinking, 16);
  const Vcpu& thinker = *thinking->vmms[0]->vcpus()[0];
  CHECK(thinker.records()[15].raised - thinker.records()[0].raised >= 15'000'000u);
  CHECK(thinker.counters()[Counter::waiting_cpu_ns] > 0);
}

TEST("kvm: a guest stamps its first access, its last and some between, and the end of every pass") {
  needs_stamps();
  GuestPlan plan = kvm_plan("no_uffd_wait");
  plan.vmm.access.passes = 2;
  const auto result = run_guest(plan);
  check_run(*result, 256);
  for (const auto& vcpu : result->vmms[0]->vcpus()) {
    const auto marks = vcpu->milestones().marks();
    CHECK_EQUAL(marks.front().accesses, 1u);
    CHECK_EQUAL(marks.back().accesses, 128u);
    CHECK(marks.size() > 60 && marks.size() < 70);
    for (std::size_t i = 1; i < marks.size(); ++i) {
      CHECK(marks[i - 1].at <= marks[i].at);
      CHECK(marks[i - 1].pages <= marks[i].pages);
    }
    CHECK_EQUAL(vcpu->pass_ends().size(), 2u);
    CHECK(vcpu->start() <= marks.front().at && marks.back().at <= vcpu->pass_ends()[0]);
  }
}

TEST("kvm: a poisoned page is a machine check in the guest, once an access, whichever way it arrives") {
  needs_kvm();
  for (const bool when_resolved : {false, true})
    for (const bool kernel : {false, true})
      for (const char* strategy : kStrategies) {
        GuestPlan plan = kvm_plan(strategy, 2, 64);
        plan.guest.poisoned_when_resolved = when_resolved;
        plan.kinds = {Kind::poisoned, Kind::minor, Kind::minor, Kind::minor};
        const auto result = run_guest(kernel ? in_kernel_mode(plan) : plan);
        CHECK_EQUAL(result->stop_reason, "");
        CHECK_EQUAL(result->wrong_words, 0u);
        CHECK_EQUAL(result->refused, 16u);
        CHECK_EQUAL(result->pages_resolved, 48u);
        CHECK_EQUAL((*result)[Counter::memory_errors], 16u);
        std::uint64_t injected = 0;
        for (const auto& vcpu : result->vmms[0]->vcpus())
          for (std::uint64_t i = 0; i < vcpu->recorded(); ++i)
            injected += vcpu->records()[i].outcome == FaultOutcome::memory_error;
        CHECK_EQUAL(injected, 16u);  // written by the guest, and only when it has taken a machine check
      }
}

TEST("kvm: without a page server, the watchdog ends a vCPU asleep in KVM_RUN and names it") {
  needs_kvm();
  for (const bool kernel : {false, true}) {
    GuestPlan plan = kvm_plan("uffd_wait");
    plan.vmm.watchdog_s = 0.5;
    const auto result = run_guest(kernel ? in_kernel_mode(plan) : plan, false);
    CHECK(result->stop_reason.find("stuck: vCPU") == 0);
    CHECK(result->stop_reason.find("is unresolved, stage: raised") != std::string::npos);
    CHECK_EQUAL((*result)[Counter::abandoned], 2u);
  }
}

TEST("kvm: a guest that touches outside its slots ends by name") {
  needs_kvm();
  GuestPlan plan = kvm_plan("no_uffd_wait", 1);
  plan.vmm.vcpus = 1;
  plan.vmm.record_capacity = 16;
  plan.vmm.access.order = "sequential";
  plan.vmm.access.accesses = 16;
  const Guest guest(plan.guest);
  fill(guest, std::vector<std::uint8_t>(guest.pages(), static_cast<std::uint8_t>(Kind::minor)));
  Vmm vmm(guest, plan.vmm);
  vmm.prepare();
  vmm.vcpus()[0]->order() = AccessOrder(plan.vmm.access, 2 * guest.pages(), 1, 2, 0);  // the pages after the region's last
  vmm.run();
  CHECK(guest.stop_reason().find("the guest of vCPU 0 touched guest-physical address 0x1001") != std::string::npos);
  CHECK(guest.stop_reason().find("which is in no memory slot") != std::string::npos);
}

TEST("kvm: of a slot that exits on missing pages every page does, until it is cleared, and none of its neighbours with it") {
  UserfaultBits bits(130 * 4096);
  const auto* words = reinterpret_cast<const std::uint64_t*>(bits.address());
  CHECK_EQUAL(words[0] & words[1], ~0ull);
  CHECK_EQUAL(words[2] & 3, 3u);
  bits.clear(64 * 4096, 4096);
  bits.clear(128 * 4096, 2 * 4096);
  CHECK_EQUAL(words[0], ~0ull);
  CHECK_EQUAL(words[1], ~0ull << 1);
  CHECK_EQUAL(words[2] & 3, 0u);
  CHECK(bits.there() && !UserfaultBits().there());
}

TEST("kvm: before each round every page is to exit again but those that are resolved already, swapped ones among them") {
  UserfaultBits bits(130 * 4096);
  const auto* words = reinterpret_cast<const std::uint64_t*>(bits.address());
  std::vector<std::atomic<std::uint8_t>> bytes(130);
  const PageRecord record(bytes.data());
  for (const std::uint64_t page : {1u, 64u}) CHECK(record.claim(page, PageRecord::vcpu_claim()) && record.resolve(page));
  bits.clear(0, 130 * 4096);  // an earlier round
  bits.begin_round(record, 130, 4096);
  CHECK_EQUAL(words[0], ~0ull ^ 2);
  CHECK_EQUAL(words[1], ~0ull ^ 1);
  CHECK_EQUAL(words[2] & 3, 3u);
}

TEST("kvm: what needs a kernel that exits when fast GUP fails is refused with that reason, and so is a thread's way to exit") {
  needs_kvm();
  const auto refusal = [](GuestPlan plan) -> std::string {
    try {
      run_guest(plan);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  };
  for (const char* strategy : {"no_slow_gup", "populate"}) {
    const std::string why = refusal(kvm_plan(strategy));
    CHECK(why.empty() || why.find("does not exit when fast GUP fails") != std::string::npos);
  }
  GuestPlan plan = kvm_plan("no_uffd_wait");
  plan.vmm.options["exit_via"] = 1;
  CHECK(refusal(plan).find("use strategy.exit_via=signal, or engine=thread") != std::string::npos);
  plan = kvm_plan("no_uffd_wait");
  plan.vmm.engine = "qemu";
  CHECK_EQUAL(refusal(plan),
              "engine 'qemu' is unknown; it is one of kvm, thread, watched");  // the last one is of test_rounds.cpp
}

TEST("kvm: the host's bookkeeping between two batches of accesses is counted, and a thread vCPU has none") {
  needs_kvm();
  const auto bookkeeping = [](GuestPlan plan) {
    plan.vmm.access.passes = 4;  // 512 accesses a vCPU: two batches
    return run_guest(plan)->vmms[0]->vcpus()[0]->bookkeeping();
  };
  CHECK(bookkeeping(kvm_plan("uffd_wait")) > 0);
  GuestPlan thread = kvm_plan("uffd_wait");
  thread.vmm.engine = "thread";
  CHECK_EQUAL(bookkeeping(thread), 0u);
}

TEST("kvm: a guest without stamps has its faults raised when they arrive, and keeps no rate and no think time") {
  needs_kvm();
  if (Clock::get().invariant()) throw check::Skipped("this host has an invariant counter");
  for (const char* strategy : kStrategies) {
    const auto result = run_guest(kvm_plan(strategy));
    check_run(*result, 256);
    for (const auto& vcpu : result->vmms[0]->vcpus())
      for (std::uint64_t i = 0; i < vcpu->recorded(); ++i) {
        const FaultRecord& record = vcpu->records()[i];
        CHECK(record.delivered != 0 && record.raised == record.delivered);
        CHECK_EQUAL(record.resumed, std::min(std::max(record.raised, record.installed.load()), vcpu->end()));
      }
    for (const bool rate : {true, false}) {
      GuestPlan plan = kvm_plan(strategy, 1, 16);
      if (rate) plan.vmm.access.rate_per_s = 1000;
      if (!rate) plan.vmm.access.think_ns = 1000;
      CHECK(run_guest(plan)->stop_reason.find("so it cannot keep access.rate_per_s or access.think_us") != std::string::npos);
    }
  }
}
