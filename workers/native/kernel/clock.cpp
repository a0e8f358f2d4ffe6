#include "kernel/clock.hpp"

#include <sched.h>

#include <fstream>
#include <string>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace uffd {

namespace {

bool invariant_counter() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0x80000007, &a, &b, &c, &d) == 0 || (d & (1u << 8)) == 0) return false;
  // The kernel's own verdict counts too: it leaves "tsc" when it has seen the counters of two CPUs disagree.
  std::ifstream source("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  std::string name;
  source >> name;
  return name == "tsc" || name == "kvm-clock";
#else
  return false;
#endif
}

}  // namespace

Clock::Clock() : invariant_(invariant_counter()) {
  if (!invariant_) return;
  const Ticks ticks0 = now();
  const std::uint64_t ns0 = monotonic_ns();
  while (monotonic_ns() - ns0 < 5'000'000) {
  }
  ticks_per_s_ = static_cast<double>(now() - ticks0) * 1e9 / static_cast<double>(monotonic_ns() - ns0);
}

const Clock& Clock::get() {
  static const Clock clock;
  return clock;
}

[[gnu::hot]] Ticks Clock::now_and_cpu(std::uint16_t& cpu) const noexcept {
#if defined(__x86_64__)
  if (invariant_) {
    unsigned aux = 0;
    const Ticks ticks = __rdtscp(&aux);
    cpu = static_cast<std::uint16_t>(aux & 0xfff);  // Linux keeps (node << 12 | cpu) in TSC_AUX
    return ticks;
  }
#endif
  cpu = static_cast<std::uint16_t>(sched_getcpu());
  return monotonic_ns();
}

void TickLine::read(Ticks& ticks, std::uint64_t& ns) {
  const Clock& clock = Clock::get();
  // The tightest of a few bracketed readings: a preemption between the two clocks would tilt the line.
  Ticks best = ~Ticks{0};
  for (int i = 0; i < 8; ++i) {
    const Ticks before = clock.now();
    const std::uint64_t middle = Clock::monotonic_ns();
    const Ticks after = clock.now();
    if (after - before < best) {
      best = after - before;
      ticks = before + (after - before) / 2;
      ns = middle;
    }
  }
}

std::uint64_t TickLine::to_ns(Ticks ticks) const noexcept {
  if (ticks == 0 || ticks1_ <= ticks0_) return ticks;
  const auto offset = static_cast<__int128>(ticks) - static_cast<__int128>(ticks0_);
  const auto ns =
      static_cast<__int128>(ns0_) + offset * static_cast<__int128>(ns1_ - ns0_) / static_cast<__int128>(ticks1_ - ticks0_);
  return static_cast<std::uint64_t>(ns);
}

}  // namespace uffd
