#include <cstring>
#include <vector>

#include "check.hpp"
#include "guest/contents.hpp"
#include "guest/dropped_pages.hpp"

using uffd::Contents;

TEST("a filled page has no wrong words, and another page's contents are all wrong") {
  const Contents contents(42, 4096);
  std::vector<std::uint64_t> page(512);
  std::uint64_t first = 0;
  contents.fill(3, page.data());
  CHECK_EQUAL(contents.wrong_words(3, page.data(), first), 0u);
  CHECK_EQUAL(contents.wrong_words(4, page.data(), first), 512u);
  CHECK_EQUAL(Contents(43, 4096).wrong_words(3, page.data(), first), 512u);
}

TEST("one flipped bit is one wrong word, and its index is named") {
  const Contents contents(42, 4096);
  std::vector<std::uint64_t> page(512);
  contents.fill(9, page.data());
  page[311] ^= 1;
  std::uint64_t first = 0;
  CHECK_EQUAL(contents.wrong_words(9, page.data(), first), 1u);
  CHECK_EQUAL(first, 311u);
}

TEST("the touched word lies in the page, and in its second half on about half of the pages") {
  const Contents contents(42, 4096);
  int late = 0;
  for (std::uint64_t page = 0; page < 10'000; ++page) {
    const std::uint64_t word = contents.touched_word(contents.base(page));
    CHECK(word < 512);
    late += word >= 256;
  }
  CHECK(late > 4'500 && late < 5'500);
}

TEST("what a balloon dropped may hold a zero that the contents have there, and only zeros") {
  uffd::DroppedPages pages(2);
  CHECK(pages.begin(0));
  pages.end(0);
  CHECK(pages.allows(0, 0, 7, true) && pages.allows(0, 0, 0, true));
  CHECK(!pages.allows(0, 7, 7, true) && !pages.allows(0, 5, 7, true));
  CHECK(pages.allows(0, 7, 7, false));
  CHECK(pages.allows(1, 0, 0, false) && !pages.allows(1, 0, 7, false));
}
