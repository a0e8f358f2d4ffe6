// When an open loop's accesses are due: at a fixed interval, with exponential gaps, or as a trace says. vCPUs do not start in
// phase where there is an interval: vCPU i of n is i/n of one late.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "guest/access_order.hpp"
#include "kernel/clock.hpp"

namespace uffd {

class Arrivals {
 public:
  /// `interval`: ticks between two accesses of this vCPU on average; 0: a closed loop, in which nothing is due. Throws
  /// ConfigError: an unknown name (with the list).
  Arrivals(const std::string& name, Ticks interval, std::uint32_t vcpu, std::uint32_t vcpus, std::uint64_t seed);

  /// As `access` says: of a trace with times its own, otherwise by rate. Throws ConfigError.
  static Arrivals of(const AccessConfig& access, std::uint32_t vcpu, std::uint32_t vcpus, std::uint64_t seed);
  /// Of a trace: `dues` ticks after the start, and the same again from `lap` ticks on. Without `dues` a closed loop.
  Arrivals(std::vector<Ticks> dues, Ticks lap) : dues_(std::move(dues)), lap_(lap), random_(0) {}

  bool open_loop() const noexcept { return interval_ != 0 || !dues_.empty(); }
  /// The clock has started.
  void begin(Ticks start) noexcept {
    at_ = 0;
    lap_began_ = start;
    due_ = start + (!dues_.empty() ? dues_.front() : poisson_ ? gap() : first_);
  }
  /// When the next access is due.
  Ticks due() const noexcept { return due_; }
  /// It has been made; the one after it is next.
  void advance() noexcept {
    if (dues_.empty())
      due_ += poisson_ ? gap() : interval_;
    else
      advance_in_trace();
  }

 private:
  Ticks gap() noexcept;
  void advance_in_trace() noexcept {
    if (++at_ == dues_.size()) {
      at_ = 0;
      lap_began_ += lap_;
    }
    due_ = lap_began_ + dues_[at_];
  }

  Ticks interval_ = 0, first_ = 0;
  bool poisson_ = false;
  std::vector<Ticks> dues_;
  Ticks lap_ = 0, lap_began_ = 0;
  std::size_t at_ = 0;
  Random random_;
  Ticks due_ = 0;
};

}  // namespace uffd
