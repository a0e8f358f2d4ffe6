// The start gate: the vCPUs of a gated guest stay at their barrier until it is released from outside.
#include <thread>

#include "check.hpp"
#include "guest/guest.hpp"

namespace {

using namespace uffd;

constexpr std::uint64_t kMs = 1'000'000;

Guest gated() { return Guest({.region_bytes = 16 * 4096, .vcpus = 1, .vcpus_per_vmm = 1, .gated = true}); }

TEST("a gated guest is armed by its last vCPU and started by the gate only") {
  const Guest guest = gated();
  CHECK(!guest.wait_armed(kMs));
  guest.all_arrived();
  CHECK(guest.wait_armed(0));
  CHECK_EQUAL(guest.header().released.load(), 0u);
  const std::uint64_t at = Clock::monotonic_ns() + 20 * kMs;
  guest.release(at, 1);
  CHECK(Clock::monotonic_ns() >= at);
  CHECK_EQUAL(guest.header().released.load(), 1u);
}

TEST("a gate whose time has passed opens at once, and a guest without one does with its last vCPU") {
  const Guest late = gated();
  late.release(Clock::monotonic_ns() - kMs, 1);
  CHECK_EQUAL(late.header().released.load(), 1u);
  const Guest open({.region_bytes = 16 * 4096, .vcpus = 1, .vcpus_per_vmm = 1});
  open.all_arrived();
  CHECK_EQUAL(open.header().released.load(), 1u);
}

TEST("a gate that is opened again, as by a page server in place of one that died over it, opens no further round") {
  const Guest guest = gated();
  guest.all_arrived();
  guest.release(0, 1);
  guest.release(0, 1);
  CHECK_EQUAL(guest.header().released.load(), 1u);
  guest.release(0, 2);
  CHECK_EQUAL(guest.header().released.load(), 2u);
}

TEST("a stop ends the wait for the vCPUs and the wait for the time") {
  const Guest guest = gated();
  std::thread waiting([&] { CHECK(!guest.wait_armed(60'000 * kMs)); });
  std::thread opening([&] { guest.release(Clock::monotonic_ns() + 60'000 * kMs, 1); });
  guest.stop("enough");
  waiting.join();
  opening.join();
}

}  // namespace
