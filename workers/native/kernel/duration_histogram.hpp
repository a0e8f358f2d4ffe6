// How long things took, however many they are, in a bounded space.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernel/clock.hpp"

namespace uffd {

/// Counts of durations in buckets a thirty-second of a power of two wide: a quantile in 16 KiB, to 3 %.
class DurationHistogram {
 public:
  void add(Ticks ticks, std::uint64_t weight) noexcept;
  /// The upper end of the bucket that holds the quantile; 0 when nothing was added.
  Ticks quantile(double share) const noexcept;
  /// The upper end of each bucket that holds any, and how many, in ascending order: those of several threads can be merged.
  std::vector<std::pair<Ticks, std::uint64_t>> buckets() const;

 private:
  static constexpr unsigned kBits = 5;
  static std::size_t bucket_of(Ticks ticks) noexcept;
  static Ticks upper_end(std::size_t bucket) noexcept;
  std::array<std::uint64_t, (64 - kBits + 1) << kBits> counts_{};
  std::uint64_t total_ = 0;
};

}  // namespace uffd
