// How far a vCPU had got, and when: stamps at a few dozen evenly spaced points, so that what a restored guest waits for can be
// computed afterwards for every strategy alike, whether or not its faults are seen or sampled.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "kernel/clock.hpp"

namespace uffd {

class Milestones {
 public:
  struct Mark {
    Ticks at;
    std::uint64_t accesses;  ///< of the first pass, done
    std::uint64_t pages;     ///< resolved for this vCPU
  };

  explicit Milestones(std::uint64_t accesses_per_pass) noexcept
      : step_(std::max<std::uint64_t>(accesses_per_pass / kMarks, 1)), last_(accesses_per_pass) {}

  /// Whether the access just done, the `done`-th of the first pass, is to be stamped: the first, every step-th, the last.
  bool due(std::uint64_t done) const noexcept { return done >= next_; }
  void mark(Ticks at, std::uint64_t done, std::uint64_t pages) noexcept {
    add({at, done, pages});
    next_ = after(done);
  }
  /// The one that is due next, and the one after `done`: counts of accesses done.
  std::uint64_t next() const noexcept { return next_; }
  std::uint64_t after(std::uint64_t done) const noexcept {
    return done >= last_ ? ~0ull : std::min(done / step_ * step_ + step_, last_);
  }
  /// Pages brought in before the first access: one stamp a step.
  void populated(Ticks at, std::uint64_t pages, std::uint64_t of) noexcept {
    if (pages < of && count_ != 0 && pages - marks_[count_ - 1].pages < of / kMarks) return;
    add({at, 0, pages});
  }

  std::span<const Mark> marks() const noexcept { return {marks_.data(), count_}; }

 private:
  static constexpr std::uint64_t kMarks = 64;
  static constexpr std::uint64_t kMost = 4 * kMarks + 8;  // a step rounded down gives up to twice kMarks of either kind

  void add(const Mark& mark) noexcept {
    if (count_ < kMost) marks_[count_++] = mark;
  }

  std::uint64_t step_, last_, next_ = 1;
  std::uint64_t count_ = 0;
  std::array<Mark, kMost> marks_{};
};

}  // namespace uffd
