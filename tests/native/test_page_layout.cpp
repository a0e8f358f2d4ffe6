#include "check.hpp"
#include "guest/page_layout.hpp"

using uffd::GuestConfig;
using uffd::PageLayout;

namespace {

PageLayout layout(std::uint64_t pages, std::uint32_t regions) {
  GuestConfig config;
  config.region_bytes = pages * 4096;
  config.regions = regions;
  return PageLayout(config);
}

}  // namespace

TEST("pages of one region follow each other") {
  const PageLayout one = layout(10, 1);
  CHECK_EQUAL(one.offset(7), 7u * 4096);
  CHECK_EQUAL(one.page_at(7 * 4096 + 5), 7u);
  CHECK_EQUAL(one.span_bytes(), 10u * 4096);
  CHECK_EQUAL(one.end_page(0), 10u);
}

TEST("regions have gaps between, the last one takes what the division leaves, and every offset leads back to its page") {
  for (const std::uint32_t regions : {2u, 3u, 7u, 10u}) {
    const PageLayout apart = layout(10, regions);
    std::uint64_t end = 0;
    for (std::uint64_t region = 0; region < regions; ++region) {
      CHECK_EQUAL(apart.first_page(region), end);
      end = apart.end_page(region);
      CHECK(end > apart.first_page(region));
      for (std::uint64_t page = apart.first_page(region); page < end; ++page) {
        CHECK_EQUAL(apart.region_of(page), region);
        CHECK_EQUAL(apart.offset(page), page * 4096 + region * PageLayout::kGapBytes);
        CHECK_EQUAL(apart.page_at(apart.offset(page) + 4095), page);
      }
    }
    CHECK_EQUAL(end, 10u);
    CHECK_EQUAL(apart.span_bytes(), apart.offset(9) + 4096);
  }
}
