#include "kernel/duration_histogram.hpp"

#include <bit>

namespace uffd {

std::size_t DurationHistogram::bucket_of(Ticks ticks) noexcept {
  if (ticks < 1u << kBits) return static_cast<std::size_t>(ticks);
  const auto shift = static_cast<unsigned>(std::bit_width(ticks)) - kBits - 1;
  return ((static_cast<std::size_t>(shift) + 1) << kBits) + static_cast<std::size_t>((ticks >> shift) - (1u << kBits));
}

Ticks DurationHistogram::upper_end(std::size_t bucket) noexcept {
  if (bucket < 1u << kBits) return bucket;
  const std::size_t shift = (bucket >> kBits) - 1;
  const Ticks low = static_cast<Ticks>((bucket & ((1u << kBits) - 1)) + (1u << kBits)) << shift;
  return low + ((Ticks{1} << shift) - 1);
}

void DurationHistogram::add(Ticks ticks, std::uint64_t weight) noexcept {
  counts_[bucket_of(ticks)] += weight;
  total_ += weight;
}

Ticks DurationHistogram::quantile(double share) const noexcept {
  const double wanted = share * static_cast<double>(total_);
  std::uint64_t below = 0;
  for (std::size_t bucket = 0; bucket < counts_.size() && total_ != 0; ++bucket) {
    below += counts_[bucket];
    if (static_cast<double>(below) >= wanted && below != 0) return upper_end(bucket);
  }
  return 0;
}

std::vector<std::pair<Ticks, std::uint64_t>> DurationHistogram::buckets() const {
  std::vector<std::pair<Ticks, std::uint64_t>> held;
  for (std::size_t bucket = 0; bucket < counts_.size(); ++bucket)
    if (counts_[bucket] != 0) held.emplace_back(upper_end(bucket), counts_[bucket]);
  return held;
}

}  // namespace uffd
