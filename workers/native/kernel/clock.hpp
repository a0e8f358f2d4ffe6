// Time stamps for the measured path: the invariant counter (x86-64: TSC, arm64: CNTVCT) where there is one, clock_gettime where
// not. Stamps are turned into CLOCK_MONOTONIC nanoseconds after the run, never on it (five clock_gettime calls cost 10 % of a
// trip).
#pragma once

#include <cstdint>
#include <ctime>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "kernel/vocabulary.hpp"

namespace uffd {

using Ticks = std::uint64_t;

class Clock {
 public:
  /// The process's one clock: probed on first use (reads the CPU's features and the kernel's clock source).
  static const Clock& get();

  Ticks now() const noexcept {
#if defined(__x86_64__)
    if (invariant_) return __rdtsc();
#elif defined(__aarch64__)
    if (invariant_) return counter();
#endif
    return monotonic_ns();
  }

  /// A stamp and the CPU it was taken on, in one instruction where there is one.
  Ticks now_and_cpu(std::uint16_t& cpu) const noexcept;

  bool invariant() const noexcept { return invariant_; }
  double ticks_per_s() const noexcept { return ticks_per_s_; }

  static std::uint64_t monotonic_ns() noexcept {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * kNanosecondsPerSecond + static_cast<std::uint64_t>(t.tv_nsec);
  }

  std::uint64_t to_ns(Ticks ticks) const noexcept {
    return static_cast<std::uint64_t>(static_cast<double>(ticks) * 1e9 / ticks_per_s_);
  }
  Ticks from_ns(double ns) const noexcept { return static_cast<Ticks>(ns * ticks_per_s_ / 1e9); }

 private:
  Clock();
#if defined(__aarch64__)
  /// The barrier keeps the read behind the access that it stamps.
  static Ticks counter() noexcept {
    Ticks ticks;
    asm volatile("isb\n mrs %0, cntvct_el0" : "=r"(ticks) : : "memory");
    return ticks;
  }
#endif
  bool invariant_ = false;
  bool few_cpus_ = true;  ///< TSC_AUX has room for every CPU's number
  double ticks_per_s_ = 1e9;
};

/// Two readings of (ticks, CLOCK_MONOTONIC), one before and one after the measured phase: between them the conversion is
/// a straight line, so it is exact at both ends whatever the nominal frequency is.
class TickLine {
 public:
  void begin() { read(ticks0_, ns0_); }
  void end() { read(ticks1_, ns1_); }
  /// CLOCK_MONOTONIC nanoseconds of `ticks`; 0 stays 0 ("did not happen").
  std::uint64_t to_ns(Ticks ticks) const noexcept;

 private:
  static void read(Ticks& ticks, std::uint64_t& ns);
  Ticks ticks0_ = 0, ticks1_ = 0;
  std::uint64_t ns0_ = 0, ns1_ = 0;
};

}  // namespace uffd
