// What a vCPU's thread owes to its signals, its stamps and its number.
#include <chrono>
#include <csignal>
#include <thread>

#include "check.hpp"
#include "kernel/error.hpp"
#include "server/vcpu_threads.hpp"
#include "vcpu/calibration.hpp"
#include "vcpu/page_check.hpp"
#include "vcpu/signals.hpp"
#include "vcpu/thread_engine.hpp"
#include "vcpu/touch.hpp"
#include "vmm/stamps.hpp"
#include "whole_guest.hpp"

using namespace uffd;

namespace {

/// A vCPU with all of its 16 pages minor, its engine, whose handlers are installed, and no page server.
struct UnservedVcpu {
  Guest guest{{.region_bytes = 16 * 4096, .vcpus = 1, .vcpus_per_vmm = 1}};
  Vmm vmm;
  Vcpu& vcpu;
  Mapping none;
  ThreadEngine engine;

  explicit UnservedVcpu(const char* strategy)
      : vmm(filled(guest), {.strategy = strategy, .record_capacity = 16}),
        vcpu(*vmm.vcpus()[0]),
        engine({guest, vcpu.vmm(), none, none, none, 0, 1, {}}) {}

 private:
  static const Guest& filled(const Guest& guest) {
    fill(guest, std::vector<std::uint8_t>(guest.pages(), static_cast<std::uint8_t>(Kind::minor)));
    return guest;
  }
};

}  // namespace

// The thread sanitizer's runtime puts a signal off until the thread's next call that it intercepts: a thread asleep in a touch
// makes none, so there a stop ends registration instead.
#ifndef __SANITIZE_THREAD__
TEST("a kicked sleeper leaves its touch for good, while its page is still registered") {
  UnservedVcpu scene("uffd_wait");
  Vcpu& vcpu = scene.vcpu;
  std::thread thread([&] { vcpu.run(scene.engine); });
  const auto finished = [&] { return vcpu.state().finished.load() != 0; };
  while (vcpu.state().stage.load() != Stage::raised) std::this_thread::yield();
  scene.guest.stop("asked to");
  for (int i = 0; i < 1000 && !finished(); ++i) {
    scene.engine.kick(0, thread.native_handle());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  const bool left = finished();
  scene.vmm.finish();  // ends registration: a sleeper that went back to sleep is free now
  thread.join();
  CHECK(left);
  CHECK_EQUAL(vcpu.counters()[Counter::abandoned], 1u);
}
#endif

TEST("a guest without stamps of its own has its records' stamps converted once") {
  const Guest guest(GuestConfig{.region_bytes = 16 * 4096, .vcpus = 1, .vcpus_per_vmm = 1});
  TickLine line;
  line.begin();
  std::vector<FaultRecord> records(3);
  const Ticks now = Clock::get().now();
  records[0].page = 3;
  records[0].outcome = FaultOutcome::resolved;
  records[0].delivered = now + 1000;
  records[0].installed = now + 5000;
  records[1].page = 4;
  records[1].outcome = FaultOutcome::waited;
  records[1].raised = now + 100;
  records[1].delivered = now + 200;
  records[1].resumed = now + 900;
  records[2].page = 5;  // its reader was held up: both stamps are those of other accesses
  records[2].outcome = FaultOutcome::waited;
  records[2].raised = now + 100;
  records[2].delivered = now + 50;
  records[2].fetched = now + 950;
  records[2].installed = now + 960;
  records[2].resumed = now + 900;
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  line.end();
  LongestFault longest;
  convert_stamps(guest, line, records, {}, longest);
  CHECK_EQUAL(records[0].raised, line.to_ns(now + 1000));
  CHECK_EQUAL(records[0].delivered.load(), line.to_ns(now + 1000));
  CHECK_EQUAL(records[0].resumed, line.to_ns(now + 5000));
  CHECK_EQUAL(records[0].fetched.load(), 0u);
  CHECK_EQUAL(records[1].raised, line.to_ns(now + 100));
  CHECK_EQUAL(records[1].resumed, line.to_ns(now + 900));
  CHECK_EQUAL(records[2].delivered.load(), 0u);
  CHECK_EQUAL(records[2].fetched.load(), 0u);
  CHECK_EQUAL(records[2].installed.load(), line.to_ns(now + 960));
}

TEST("a thread that may not leave a handler by itself leaves it by rt_sigreturn, and its touches go on") {
  CHECK(!has_shadow_stack());  // else this very process would run by rt_sigreturn alone
  return_by_kernel(true);
  const double by_kernel_ns =
      calibrate(ExitKind::signal, MemoryType::shmem, 1024).exit.median_ns;  // throws unless each one is taken
  return_by_kernel(false);
  CHECK(by_kernel_ns > 0.0);
  CHECK(calibrate(ExitKind::signal, MemoryType::shmem, 1024).exit.median_ns > 0.0);
}

TEST("once all vCPUs have arrived a thread is looked up in a table alone: no event walks over the vCPUs") {
  const Guest guest(GuestConfig{.region_bytes = 16 * 4096, .vcpus = 3, .vcpus_per_vmm = 3});
  VcpuThreads threads(guest);
  const auto arrive = [&](std::uint32_t vcpu, std::uint32_t tid) {
    guest.vcpu(vcpu).tid.store(tid);
    guest.header().arrived.fetch_add(1);
  };
  arrive(0, 100);
  arrive(1, 101);
  CHECK_EQUAL(threads.find(101), 1u);
  CHECK_EQUAL(threads.find(102), VcpuThreads::kNobody);
  arrive(2, 102);  // it came late, and is found
  CHECK_EQUAL(threads.find(102), 2u);
  CHECK_EQUAL(threads.find(500), VcpuThreads::kNobody);  // a device's
  CHECK_EQUAL(threads.find(0), VcpuThreads::kNobody);    // an event without a thread
  guest.vcpu(2).tid.store(500);                          // what a walk would find now
  CHECK_EQUAL(threads.find(500), VcpuThreads::kNobody);
}

TEST("more vCPUs than a fault record can number are refused") {
  std::string said;
  try {
    const Guest guest(GuestConfig{.region_bytes = 1ull << 32, .vcpus = 65537, .vcpus_per_vmm = 1});
  } catch (const ConfigError& error) {
    said = error.what();
  }
  CHECK_EQUAL(said, "vcpus must be at most 65536: a fault record has 16 bits for its vCPU");
}

TEST("the CPU time that a vCPU waits with is counted: under a rate, think time and hold time, and not without") {
  const auto waiting_and_all = [](const GuestPlan& plan) {
    const auto result = run_guest(plan);
    CHECK_EQUAL(result->stop_reason, "");
    const Vcpu& vcpu = *result->vmms[0]->vcpus()[0];
    return std::pair(vcpu.counters()[Counter::waiting_cpu_ns], vcpu.rounds()[0].cpu_ns);
  };
  GuestPlan plan{.guest = {.region_bytes = 64 * 4096, .vcpus = 1, .vcpus_per_vmm = 1}};
  plan.vmm.strategy = "no_uffd_wait";
  CHECK_EQUAL(waiting_and_all(plan).first, 0u);
  plan.kind = Kind::hit;  // accesses that take next to nothing beside the 200 us that are spun for each of them
  GuestPlan open_loop = plan, thinking = plan, holding = plan;
  open_loop.vmm.access.rate_per_s = 2000;
  thinking.vmm.access.think_ns = 500'000;
  holding.vmm.access.hold_ns = 20'000'000;
  for (const GuestPlan& waits : {open_loop, thinking, holding}) {
    const auto [waiting, all] = waiting_and_all(waits);
    CHECK(waiting <= all);
    if (waits.vmm.access.hold_ns == 0) CHECK(waiting * 2 * slowness() > all);
  }
}

TEST("a page that is dropped while all its words are checked ends neither its vCPU nor the process") {
  UnservedVcpu scene("no_uffd_wait");
  Vcpu& vcpu = scene.vcpu;
  const Touching touching(vcpu);
  CHECK_EQUAL(wrong_words_of(vcpu, 3).count, 0u);  // missing, on a mapping that refuses to sleep
  const Mapping alias = Mapping::shared(scene.guest.region_fd(), scene.guest.config().region_bytes);
  reinterpret_cast<std::uint64_t*>(alias.data() + 3 * 4096)[7] ^= 1;
  Counters counters;
  CHECK(vcpu.vmm().resolver.record().claim(3, PageRecord::vcpu_claim()));
  vcpu.vmm().resolver.install({3, 1}, {.wanted = 3}, counters);
  CHECK_EQUAL(wrong_words_of(vcpu, 3).count, 1u);
  scene.guest.stop("asked to");
  CHECK_EQUAL(wrong_words_of(vcpu, 3).count, 0u);  // sleepers of a stopped run find zeros
  scene.vmm.finish();
}
