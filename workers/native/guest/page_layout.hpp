// Where each page of the region lies in a mapping of it: one after the other, or in several stretches with gaps between, as a VMM
// maps guest memory below and above 4 GiB.
#pragma once

#include <algorithm>
#include <cstdint>

#include "guest/guest_config.hpp"

namespace uffd {

class PageLayout {
 public:
  static constexpr std::uint64_t kGapBytes = 16 << 20;  ///< address space only, a multiple of every page size

  explicit PageLayout(const GuestConfig& config) noexcept
      : page_bytes_(config.page_bytes),
        pages_(config.page_bytes == 0 ? 0 : config.region_bytes / config.page_bytes),
        regions_(std::max<std::uint64_t>(config.regions, 1)),
        pages_per_region_(pages_ / regions_),
        gap_bytes_(regions_ == 1 ? 0 : kGapBytes) {}

  std::uint64_t regions() const noexcept { return regions_; }
  std::uint64_t first_page(std::uint64_t region) const noexcept { return region * pages_per_region_; }
  /// The last region has what the division leaves, too.
  std::uint64_t end_page(std::uint64_t region) const noexcept { return region + 1 == regions_ ? pages_ : first_page(region + 1); }
  std::uint64_t region_of(std::uint64_t page) const noexcept {
    return regions_ == 1 ? 0 : std::min(page / pages_per_region_, regions_ - 1);
  }

  /// Bytes from the start of the mapping to a page.
  [[gnu::always_inline]] std::uint64_t offset(std::uint64_t page) const noexcept {
    const std::uint64_t bytes = page * page_bytes_;
    return gap_bytes_ == 0 ? bytes : bytes + region_of(page) * gap_bytes_;
  }
  /// The page at an offset that is in no gap.
  std::uint64_t page_at(std::uint64_t offset) const noexcept {
    if (gap_bytes_ == 0) return offset / page_bytes_;
    const std::uint64_t region = std::min(offset / (pages_per_region_ * page_bytes_ + gap_bytes_), regions_ - 1);
    return (offset - region * gap_bytes_) / page_bytes_;
  }
  /// Of the mapping, gaps included.
  std::uint64_t span_bytes() const noexcept { return pages_ * page_bytes_ + (regions_ - 1) * gap_bytes_; }

 private:
  std::uint64_t page_bytes_, pages_, regions_, pages_per_region_, gap_bytes_;
};

}  // namespace uffd
