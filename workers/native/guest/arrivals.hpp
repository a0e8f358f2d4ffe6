// When an open loop's accesses are due: at a fixed interval, or with exponential gaps. vCPUs do not start in phase: vCPU i of n
// is i/n of an interval late.
#pragma once

#include <cstdint>
#include <string>

#include "guest/access_order.hpp"
#include "kernel/clock.hpp"

namespace uffd {

class Arrivals {
 public:
  /// `interval`: ticks between two accesses of this vCPU on average; 0: a closed loop, in which nothing is due. Throws
  /// ConfigError: an unknown name (with the list).
  Arrivals(const std::string& name, Ticks interval, std::uint32_t vcpu, std::uint32_t vcpus, std::uint64_t seed);

  bool open_loop() const noexcept { return interval_ != 0; }
  /// The clock has started.
  void begin(Ticks start) noexcept { due_ = start + (poisson_ ? gap() : first_); }
  /// When the next access is due.
  Ticks due() const noexcept { return due_; }
  /// It has been made; the one after it is next.
  void advance() noexcept { due_ += poisson_ ? gap() : interval_; }

 private:
  Ticks gap() noexcept;

  Ticks interval_, first_;
  bool poisson_;
  Random random_;
  Ticks due_ = 0;
};

}  // namespace uffd
