// Single exits of a vCPU, each in a situation that is made for it: no page server.
#include <sys/mman.h>
#include <unistd.h>

#include <thread>

#include "check.hpp"
#include "resolve/fill.hpp"
#include "vmm/vmm.hpp"

using namespace uffd;

namespace {

constexpr std::uint64_t kTripPages = 16;

struct OneVcpu {
  Guest guest;
  Vmm vmm;

  OneVcpu(const GuestConfig& memory, Kind kind, const VmmConfig& config)
      : guest((memory)),
        vmm((fill(guest, std::vector<std::uint8_t>(kTripPages, static_cast<std::uint8_t>(kind))), guest), config) {
    CHECK_EQUAL(vmm.prepare().unprepared, 0u);
  }
  std::uint64_t address(std::uint64_t page) const { return vmm.shards()[0].address + page * kBasePageBytes; }
  const Userfaultfd& uffd() const { return *vmm.userfaultfds()[0]; }
};

VmmConfig exiting(std::uint64_t accesses, std::uint32_t around = 1) {
  VmmConfig config;
  config.strategy = "no_uffd_wait";
  config.options["fault_around_pages"] = around;
  config.record_capacity = kTripPages;
  config.access.order = "sequential";
  config.access.accesses = accesses;
  return config;
}

}  // namespace

TEST("a trip that has installed the touched page is resolved, whatever neighbour was mapped already") {
  OneVcpu one({.region_bytes = kTripPages * kBasePageBytes, .request_pages = 8}, Kind::minor, exiting(1, 8));
  CHECK_EQUAL(one.uffd().resume(one.address(3), kBasePageBytes, false).error, 0);
  one.vmm.run();
  CHECK_EQUAL(one.guest.stop_reason(), "");
  const Counters counters = one.vmm.counters();
  CHECK_EQUAL(counters[Counter::eexist], 1u);
  CHECK_EQUAL(counters[Counter::trips_resolved], 1u);
  CHECK_EQUAL(counters[Counter::trips_lost], 0u);
}

TEST("an exit on a page that is gone and said to be resolved waits until the remove event that was read is marked") {
  VmmConfig config = exiting(kTripPages);
  config.disturb.balloon.track_removes = true;
  OneVcpu one({.region_bytes = kTripPages * kBasePageBytes, .drops = true}, Kind::hit, config);
  one.guest.marking()[0].fetch_add(1);  // a reader is about to read
  std::thread dropper([&] { ::madvise(reinterpret_cast<void*>(one.address(5)), kBasePageBytes, MADV_DONTNEED); });
  uffd_msg message{};
  while (::read(one.uffd().fd(), &message, sizeof message) != sizeof message) ::usleep(100);
  dropper.join();
  std::thread running([&] { one.vmm.run(); });
  while (one.guest.vcpu(0).stage.load() != Stage::delivered) std::this_thread::yield();
  ::usleep(20'000);
  const std::uint32_t waits_at = static_cast<std::uint32_t>(one.guest.vcpu(0).accesses.load());
  const Mapping bytes = Mapping::shared(one.vmm.record_fd(), kTripPages);
  CHECK(PageRecord(reinterpret_cast<std::atomic<std::uint8_t>*>(bytes.data())).discard(5));
  one.guest.marking()[0].fetch_add(1);
  running.join();
  CHECK_EQUAL(one.guest.stop_reason(), "");
  CHECK_EQUAL(waits_at, 5u);
  const Counters counters = one.vmm.counters();
  CHECK_EQUAL(counters[Counter::trips_resolved], 1u);
  CHECK_EQUAL(counters[Counter::resolved_again], 0u);
}
