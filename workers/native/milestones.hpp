// How far a vCPU had got, and when: stamps at a few dozen evenly spaced points, so that what a restored guest waits for can be
// computed afterwards for every strategy alike, whether or not its faults are seen or sampled.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "clock.hpp"

namespace uffd {

class Milestones {
 public:
  struct Mark {
    Ticks at;
    std::uint64_t accesses;  ///< of the first pass, done
    std::uint64_t pages;     ///< resolved for this vCPU
  };

  explicit Milestones(std::uint64_t accesses_per_pass)
      : step_(std::max<std::uint64_t>(accesses_per_pass / kMarks, 1)), last_(accesses_per_pass) {
    marks_.reserve(2 * kMarks + 8);
  }

  /// Whether the access just done, the `done`-th of the first pass, is to be stamped: the first, every step-th, the last.
  bool due(std::uint64_t done) const noexcept { return done >= next_; }
  void mark(Ticks at, std::uint64_t done, std::uint64_t pages) {
    marks_.push_back({at, done, pages});
    next_ = done >= last_ ? ~0ull : std::min(done / step_ * step_ + step_, last_);
  }
  /// Pages brought in before the first access: one stamp a step.
  void populated(Ticks at, std::uint64_t pages, std::uint64_t of) {
    if (pages < of && !marks_.empty() && pages - marks_.back().pages < of / kMarks) return;
    marks_.push_back({at, 0, pages});
  }
  void end_of_pass(Ticks at) { pass_ends_.push_back(at); }

  const std::vector<Mark>& marks() const noexcept { return marks_; }
  const std::vector<Ticks>& pass_ends() const noexcept { return pass_ends_; }

 private:
  static constexpr std::uint64_t kMarks = 64;
  std::uint64_t step_, last_, next_ = 1;
  std::vector<Mark> marks_;
  std::vector<Ticks> pass_ends_;
};

}  // namespace uffd
