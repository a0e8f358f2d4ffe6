// Moves over runs of pages, eight bytes at a time where they are alike: they end as the same moves page by page, and under races
// each page has one owner.
#include <algorithm>
#include <array>
#include <random>
#include <thread>
#include <vector>

#include "check.hpp"
#include "guest/guest.hpp"
#include "guest/page_record.hpp"

using namespace uffd;

namespace {

constexpr std::uint64_t kRunPages = 32;
constexpr std::uint8_t kRunVcpu = PageRecord::vcpu_claim();
const std::uint8_t kRunReader = PageRecord::reader_claim(5);
constexpr std::array<std::uint8_t, 11> kRunBytes{0x00, 0x01, 0x59, 0x81, 0xd9, 0x02, 0x82, 0x42, 0xc2, 0x03, 0x04};
constexpr std::array<std::uint8_t, 4> kInFlight{0x01, 0x59, 0x81, 0xd9};

/// Records that begin `offset` bytes behind a multiple of eight.
struct RunBytes {
  explicit RunBytes(std::uint64_t offset = 0) : first(all + offset) {}
  alignas(8) std::atomic<std::uint8_t> all[kRunPages + 8] = {};
  std::atomic<std::uint8_t>* first;
  PageRecord record{first};

  void set(const std::vector<std::uint8_t>& to) {
    for (std::size_t i = 0; i < to.size(); ++i) first[i] = to[i];
  }
  std::vector<std::uint8_t> now() const { return {first, first + kRunPages}; }
};

/// Page by page.
PageRun claim_one_by_one(const PageRecord& record, std::uint64_t page, std::uint64_t low, std::uint64_t high) {
  if (!record.claim(page, kRunReader)) return {page, 0};
  std::uint64_t first = page, end = page + 1;
  while (first > low && record.claim(first - 1, kRunReader)) --first;
  while (end < high && record.claim(end, kRunReader)) ++end;
  return {first, static_cast<std::uint32_t>(end - first)};
}

void same_claim(const std::vector<std::uint8_t>& bytes, std::uint64_t offset, std::uint64_t page, std::uint64_t low,
                std::uint64_t high) {
  RunBytes wide(offset), narrow(offset);
  wide.set(bytes);
  narrow.set(bytes);
  const PageRun found = wide.record.claim_around(page, low, high, kRunReader);
  const PageRun expected = claim_one_by_one(narrow.record, page, low, high);
  CHECK_EQUAL(found.first, expected.first);
  CHECK_EQUAL(found.count, expected.count);
  CHECK(wide.now() == narrow.now());
  wide.set(bytes);
  narrow.set(bytes);
  std::uint32_t onwards = 0;
  while (page + onwards < high && narrow.record.claim(page + onwards, kRunReader)) ++onwards;
  CHECK_EQUAL(wide.record.claim_onwards(page, high, kRunReader), onwards);
  CHECK(wide.now() == narrow.now());
}

template <PageMove... kMoves>
void same_settling(const std::vector<std::uint8_t>& bytes, std::uint64_t offset, const PageRun& run) {
  RunBytes wide(offset);
  wide.set(bytes);
  std::vector<std::uint8_t> expected = bytes;
  std::uint64_t at = run.first;
  wide.record.settle_run<kMoves...>(run, [&](const PageRun& part, bool again) {
    CHECK_EQUAL(part.first, at);
    for (; at < part.first + part.count; ++at) CHECK_EQUAL(again, (bytes[at] & page_bits::kWasDiscarded) != 0);
  });
  CHECK_EQUAL(at, run.first + run.count);
  for (std::uint64_t page = run.first; page < run.first + run.count; ++page) {
    PageCondition condition = page_condition(bytes[page]);
    if (make_moves<kMoves...>(condition)) expected[page] = static_cast<std::uint8_t>(condition);
  }
  CHECK(wide.now() == expected);
}

void same_settlings(const std::vector<std::uint8_t>& bytes, std::uint64_t offset, const PageRun& run) {
  using enum PageMove;
  same_settling<resolve>(bytes, offset, run);
  same_settling<resolve, enter_stage2>(bytes, offset, run);
  same_settling<release>(bytes, offset, run);
  same_settling<find_mapped>(bytes, offset, run);
  same_settling<resolve, swap_in>(bytes, offset, run);  // the second is forbidden: no byte changes
}

}  // namespace

TEST("a claim over a run takes the pages that it takes page by page, whatever one of eight bytes is beside seven alike") {
  for (const std::uint8_t most : kRunBytes)
    for (const std::uint8_t other : kRunBytes)
      for (std::uint64_t where = 0; where < 8; ++where) {
        std::vector<std::uint8_t> bytes(kRunPages, most);
        bytes[8 + where] = other;
        for (const std::uint64_t page : {3u, 8u, 11u, 15u, 20u}) same_claim(bytes, 0, page, 0, kRunPages);
      }
}

TEST("a claim over a run takes the pages that it takes page by page, of any mix, alignment, head and tail") {
  std::mt19937 random(1);
  const auto below = [&](std::uint64_t bound) { return static_cast<std::uint64_t>(random() % bound); };
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::uint8_t> bytes(kRunPages);
    std::uint8_t byte = 0;
    const std::uint64_t stretch = 1 + below(12);
    for (std::uint64_t page = 0; page < kRunPages; ++page)
      bytes[page] = byte = page % stretch == 0 ? (below(2) == 0 ? 0 : kRunBytes[below(kRunBytes.size())]) : byte;
    const std::uint64_t low = below(kRunPages), page = low + below(kRunPages - low), high = page + 1 + below(kRunPages - page);
    same_claim(bytes, below(8), page, low, high);
  }
}

TEST("the owner's moves over a run end as they end page by page, and change no byte beside it") {
  std::mt19937 random(2);
  const auto below = [&](std::uint64_t bound) { return static_cast<std::uint64_t>(random() % bound); };
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::uint8_t> bytes(kRunPages);
    const std::uint64_t first = below(kRunPages), count = below(kRunPages - first + 1), stretch = 1 + below(12);
    std::uint8_t byte = kInFlight[below(4)];
    for (std::uint64_t page = 0; page < kRunPages; ++page) {
      if (page % stretch == 0) byte = kInFlight[below(4)];
      const bool mine = page - first < count;
      bytes[page] = mine ? byte : kRunBytes[below(kRunBytes.size())];
    }
    same_settlings(bytes, below(8), {first, static_cast<std::uint32_t>(count)});
  }
}

TEST("of two threads that claim overlapping runs each page goes to one, and its byte is that one's claim") {
  constexpr int kRounds = 3000;
  RunBytes bytes;
  std::array<std::atomic<int>, kRunPages> owners{};
  std::atomic<int> round{0}, ready{0}, wrong{0};
  std::vector<std::thread> threads;
  for (unsigned number = 0; number < 2; ++number)
    threads.emplace_back([&, number] {
      const std::uint8_t claim = number == 0 ? kRunVcpu : kRunReader;
      std::mt19937 random(number);
      for (int mine = 1; mine <= kRounds; ++mine) {
        while (round.load() < mine) std::this_thread::yield();
        for (int i = 0; i < 4; ++i) {
          const std::uint64_t page = random() % kRunPages;
          const PageRun run = bytes.record.claim_around(page, page / 24 * 24, kRunPages, claim);
          for (std::uint64_t at = run.first; at < run.first + run.count; ++at) {
            ++owners[at];
            wrong += !PageRecord::claimed_by(bytes.record.byte(at), claim);
          }
          if (mine % 2 == 0) bytes.record.settle_run<PageMove::resolve>(run, [](const PageRun&, bool) {});
        }
        ++ready;
      }
    });
  std::uint64_t twice = 0;
  for (int mine = 1; mine <= kRounds; ++mine) {
    for (std::uint64_t page = 0; page < kRunPages; ++page) {
      bytes.first[page] = page % 16 == 5 ? 4 : 0;
      owners[page] = 0;
    }
    ready = 0;
    round = mine;
    while (ready.load() < 2) std::this_thread::yield();
    for (std::uint64_t page = 0; page < kRunPages; ++page) {
      twice += owners[page] > 1;
      wrong += (owners[page] == 0) != (bytes.first[page] == (page % 16 == 5 ? 4 : 0));
    }
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQUAL(twice, 0u);
  CHECK_EQUAL(wrong.load(), 0);
}

TEST("pages that are discarded while runs of them are claimed are claimed once each, as discarded ones") {
  constexpr int kRounds = 2000;
  for (int round = 0; round < kRounds; ++round) {
    RunBytes bytes;
    bytes.set(std::vector<std::uint8_t>(kRunPages, round % 2 == 0 ? 0x02 : 0x82));
    std::array<int, kRunPages> claims{};
    std::atomic<bool> discarded{false};
    std::uint64_t again = 0;
    std::thread claimer([&] {
      for (bool last = false; !last;) {
        last = discarded.load();
        for (std::uint64_t page = 0; page < kRunPages; ++page) {
          const PageRun run = bytes.record.claim_around(page, 0, kRunPages, kRunVcpu);
          for (std::uint64_t at = run.first; at < run.first + run.count; ++at) ++claims[at];
          bytes.record.settle_run<PageMove::resolve, PageMove::enter_stage2>(
              run, [&](const PageRun& part, bool before) { again += before ? part.count : 0; });
        }
      }
    });
    for (std::uint64_t page = 0; page < kRunPages; ++page) CHECK(bytes.record.discard(page));
    discarded = true;
    claimer.join();
    CHECK(std::all_of(claims.begin(), claims.end(), [](int times) { return times == 1; }));
    CHECK_EQUAL(again, kRunPages);
    CHECK(bytes.now() == std::vector<std::uint8_t>(kRunPages, 0x82));
  }
}

TEST("of the pages of a run those are counted that no mapping has resolved before, and contents of a run are complete together") {
  const Guest guest({.memory = MemoryType::shmem, .region_bytes = 256 * 4096, .vcpus = 2, .vcpus_per_vmm = 1});
  std::mt19937 random(3);
  std::vector<bool> resolved(256), complete(256);
  for (int i = 0; i < 300; ++i) {
    const std::uint64_t first = random() % 256;
    const PageRun run{first, static_cast<std::uint32_t>(random() % std::min<std::uint64_t>(257 - first, 40 + i))};
    std::uint32_t expected = 0;
    bool whole = true;
    for (std::uint64_t page = first; page < first + run.count; ++page) {
      expected += !resolved[page];
      resolved[page] = true;
      whole = whole && complete[page];
    }
    CHECK_EQUAL(guest.complete(run), whole);
    CHECK_EQUAL(guest.first_resolved(run), expected);
    const std::uint64_t page = random() % 256;
    complete[page] = true;
    guest.set_complete(page);
  }
  for (std::uint64_t page = 0; page < 256; ++page) guest.set_complete(page);
  CHECK(guest.complete(PageRun{0, 256}));
  CHECK(!guest.first_resolved(7));
}
