#include "kernel/clock.hpp"

#include <sched.h>
#include <unistd.h>

#include <fstream>
#include <string>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace uffd {

namespace {

constexpr long kMostInAux = 4096;

std::string clock_source() {
  std::ifstream source("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  std::string name;
  source >> name;
  return name;
}

bool invariant_counter() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0x80000007, &a, &b, &c, &d) == 0 || (d & (1u << 8)) == 0) return false;
  // The kernel's own verdict counts too: it leaves "tsc" when it has seen the counters of two CPUs disagree.
  const std::string name = clock_source();
  return name == "tsc" || name == "kvm-clock";
#elif defined(__aarch64__)
  return clock_source() == "arch_sys_counter";  // one counter for all CPUs, by the architecture
#else
  return false;
#endif
}

struct Reading {
  Ticks ticks = 0;
  std::uint64_t ns = 0;
};

/// The tightest of a few bracketed readings: a preemption between the two clocks would tilt what is computed from them.
Reading tightest(const Clock& clock) {
  Reading found;
  Ticks best = ~Ticks{0};
  for (int i = 0; i < 8; ++i) {
    const Ticks before = clock.now();
    const std::uint64_t middle = Clock::monotonic_ns();
    const Ticks after = clock.now();
    if (after - before < best) {
      best = after - before;
      found = {before + (after - before) / 2, middle};
    }
  }
  return found;
}

}  // namespace

Clock::Clock() : invariant_(invariant_counter()), few_cpus_(::sysconf(_SC_NPROCESSORS_CONF) <= kMostInAux) {
  if (!invariant_) return;
  const Reading first = tightest(*this);
  while (monotonic_ns() - first.ns < 5'000'000) {
  }
  const Reading last = tightest(*this);
  ticks_per_s_ = static_cast<double>(last.ticks - first.ticks) * 1e9 / static_cast<double>(last.ns - first.ns);
}

const Clock& Clock::get() {
  static const Clock clock;
  return clock;
}

[[gnu::hot]] Ticks Clock::now_and_cpu(std::uint16_t& cpu) const noexcept {
#if defined(__x86_64__)
  if (invariant_ && few_cpus_) {
    unsigned aux = 0;
    const Ticks ticks = __rdtscp(&aux);
    cpu = static_cast<std::uint16_t>(aux & (kMostInAux - 1));  // Linux keeps (node << 12 | cpu) in TSC_AUX
    return ticks;
  }
#endif
  cpu = static_cast<std::uint16_t>(sched_getcpu());
  return now();
}

void TickLine::read(Ticks& ticks, std::uint64_t& ns) {
  const Reading found = tightest(Clock::get());
  ticks = found.ticks;
  ns = found.ns;
}

std::uint64_t TickLine::to_ns(Ticks ticks) const noexcept {
  if (ticks == 0 || ticks1_ <= ticks0_ || !Clock::get().invariant()) return ticks;  // not invariant: nanoseconds already
  const auto offset = static_cast<__int128>(ticks) - static_cast<__int128>(ticks0_);
  const auto ns =
      static_cast<__int128>(ns0_) + offset * static_cast<__int128>(ns1_ - ns0_) / static_cast<__int128>(ticks1_ - ticks0_);
  return static_cast<std::uint64_t>(ns);
}

}  // namespace uffd
