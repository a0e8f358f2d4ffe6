// What the watchdog names: not the vCPU that is ready.
#include <thread>

#include "check.hpp"
#include "whole_guest.hpp"

using namespace uffd;

namespace {

VmmConfig one_vcpu() {
  VmmConfig config;
  config.strategy = "uffd_wait";
  config.watchdog_s = 1.0;
  config.record_capacity = 16;
  return config;
}

}  // namespace

TEST("a vCPU that has not arrived at the start barrier is named with its VMM process, and the one that waits for it is not") {
  const Guest guest(GuestConfig{.region_bytes = 64 * 4096, .vcpus = 2, .vcpus_per_vmm = 1});
  fill(guest, std::vector<std::uint8_t>(guest.pages(), static_cast<std::uint8_t>(Kind::minor)));
  Vmm vmm(guest, one_vcpu());
  vmm.run();
  CHECK(guest.stop_reason().find("stuck: vCPU 1 (VMM process 1) has not arrived at the start barrier after ") == 0);
  CHECK_EQUAL(vmm.stuck(0), "");
}

TEST("a start barrier that is not opened from outside ends the run within the watchdog's time, by name") {
  const Guest guest(GuestConfig{.region_bytes = 64 * 4096, .vcpus = 1, .vcpus_per_vmm = 1, .gated = true});
  fill(guest, std::vector<std::uint8_t>(guest.pages(), static_cast<std::uint8_t>(Kind::minor)));
  Vmm vmm(guest, one_vcpu());
  vmm.run();
  CHECK(guest.stop_reason().find("stuck: the start barrier was not opened after ") == 0);
}

TEST("a vCPU whose thread has not come to the start barrier is named, with no page of it") {
  const Guest guest(GuestConfig{.region_bytes = 64 * 4096, .vcpus = 3, .vcpus_per_vmm = 3});
  std::vector<std::atomic<std::uint8_t>> bytes(64);
  Watchdog watchdog(guest, PageRecord(bytes.data()), 0, 3, 5.0);
  const auto begin = std::chrono::steady_clock::now();
  CHECK_EQUAL(watchdog.look(begin), "");
  CHECK_EQUAL(watchdog.look(begin + std::chrono::seconds(4)), "");
  guest.vcpu(1).stage = Stage::raised;  // moves
  guest.vcpu(1).page = 7;
  const std::string first = watchdog.look(begin + std::chrono::seconds(6));
  CHECK_EQUAL(first, "stuck: vCPU 0 has not arrived at the start barrier after 6.0 s");
  CHECK_EQUAL(watchdog.stuck(0), first.substr(7));
  CHECK_EQUAL(watchdog.stuck(1), "");
  guest.vcpu(0).finished = 1;
  guest.vcpu(2).stage = Stage::thinking;
  CHECK_EQUAL(watchdog.look(begin + std::chrono::seconds(10)), "");
  CHECK_EQUAL(watchdog.look(begin + std::chrono::seconds(16)),
              "stuck: vCPU 1 made no progress for 6.0 s: page 7 is unresolved, stage: raised (touched, not yet delivered)");
}

TEST("a vCPU whose page changes makes progress though its access goes on: it brings in the whole region") {
  const Guest guest(GuestConfig{.region_bytes = 64 * 4096, .vcpus = 1, .vcpus_per_vmm = 1});
  std::vector<std::atomic<std::uint8_t>> bytes(64);
  Watchdog watchdog(guest, PageRecord(bytes.data()), 0, 1, 5.0);
  const auto begin = std::chrono::steady_clock::now();
  guest.vcpu(0).stage = Stage::populating;
  for (int look = 0; look < 5; ++look) {
    guest.vcpu(0).page = static_cast<std::uint64_t>(look) * 8;
    CHECK_EQUAL(watchdog.look(begin + std::chrono::seconds(4 * look)), "");
  }
  CHECK(watchdog.look(begin + std::chrono::seconds(22)).find("stuck: vCPU 0 made no progress for 6.0 s: page 32") == 0);
}
