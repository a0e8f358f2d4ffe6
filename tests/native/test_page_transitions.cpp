// The table of page-state transitions, walked: every move from every byte a record may hold, and its atomic steps under races.
#include <algorithm>
#include <array>
#include <set>
#include <thread>
#include <vector>

#include "check.hpp"
#include "guest/page_record.hpp"

using namespace uffd;

namespace {

constexpr std::uint8_t kVcpu = PageRecord::vcpu_claim();
const std::uint8_t kReader7 = PageRecord::reader_claim(7);

struct Bytes {
  std::atomic<std::uint8_t> byte{0};
  PageRecord record{&byte};
};

/// One move: its name, how it is made, and what it makes of which bytes. Written out here once more, so that a table that is
/// changed by mistake is found.
struct Move {
  const char* name;
  bool (*make)(const PageRecord&);
  std::vector<std::pair<std::uint8_t, std::uint8_t>> allowed;
};

// Bytes: 0 unresolved; 0x01 claimed by a vCPU, 0x79 by a reader of epoch 7; 0x81 and 0xf9 the same of a discarded page; 2
// resolved, 0x82 in the stage-2 table, 0x42 swapped out, 0xc2 both; 3 poisoned; 4 discarded.
const std::array kBytes{0x00, 0x01, 0x79, 0x81, 0xf9, 0x02, 0x82, 0x42, 0xc2, 0x03, 0x04};

const std::vector<Move>& moves() {
  static const std::vector<Move> all{
      {"claim by a vCPU", [](const PageRecord& r) { return r.claim(0, kVcpu); }, {{0x00, 0x01}, {0x04, 0x81}}},
      {"claim by a reader", [](const PageRecord& r) { return r.claim(0, kReader7); }, {{0x00, 0x79}, {0x04, 0xf9}}},
      {"release", [](const PageRecord& r) { return r.release(0); }, {{0x01, 0x00}, {0x79, 0x00}, {0x81, 0x04}, {0xf9, 0x04}}},
      {"resolve", [](const PageRecord& r) { return r.resolve(0); }, {{0x01, 0x02}, {0x79, 0x02}, {0x81, 0x02}, {0xf9, 0x02}}},
      {"find_mapped",
       [](const PageRecord& r) { return r.find_mapped(0); },
       {{0x01, 0x02}, {0x79, 0x02}, {0x81, 0x04}, {0xf9, 0x04}}},
      {"poison", [](const PageRecord& r) { return r.poison(0); }, {{0x01, 0x03}, {0x79, 0x03}, {0x81, 0x03}, {0xf9, 0x03}}},
      {"resolve_unasked",
       [](const PageRecord& r) { return r.resolve_unasked(0); },
       {{0x00, 0x02}, {0x02, 0x02}, {0x82, 0x02}, {0x42, 0x02}, {0xc2, 0x02}, {0x03, 0x02}, {0x04, 0x02}}},
      {"drop",  // by a remove event of a foreign VMM: no thread is at the page, and the owner's number is not kept
       [](const PageRecord& r) { return r.drop(0); },
       {{0x00, 0x04}, {0x01, 0x81}, {0x79, 0x81}, {0x81, 0x81}, {0xf9, 0x81}, {0x02, 0x04}, {0x04, 0x04}}},
      {"enter_stage2", [](const PageRecord& r) { return r.enter_stage2(0); }, {{0x02, 0x82}, {0x42, 0xc2}}},
      {"leave_stage2", [](const PageRecord& r) { return r.leave_stage2(0); }, {{0x82, 0x02}, {0xc2, 0x42}}},
      {"swap_in", [](const PageRecord& r) { return r.swap_in(0); }, {{0x42, 0x02}, {0xc2, 0x82}}},
      {"swap_out", [](const PageRecord& r) { return r.swap_out(0); }, {{0x00, 0x42}, {0x02, 0x42}}},
      {"hide_poison", [](const PageRecord& r) { return r.hide_poison(0); }, {{0x03, 0x02}}},
  };
  return all;
}

void same(int found, int expected, const std::string& what) {
  if (found != expected) throw std::runtime_error(what + ": " + std::to_string(found) + " != " + std::to_string(expected));
}

}  // namespace

TEST("every move makes of every byte of a page record what the table says, and changes no byte it is forbidden for") {
  std::size_t allowed = 0;
  for (const Move& move : moves()) {
    for (const int from : kBytes) {
      Bytes bytes;
      bytes.byte = static_cast<std::uint8_t>(from);
      const auto rule =
          std::find_if(move.allowed.begin(), move.allowed.end(), [&](const auto& one) { return one.first == from; });
      const bool may = rule != move.allowed.end();
      const std::string what = std::string(move.name) + " from " + std::to_string(from);
      same(move.make(bytes.record), may, what);
      same(bytes.byte, may ? rule->second : from, what);
      allowed += may;
    }
  }
  CHECK_EQUAL(allowed, 43u);
  std::set<std::pair<int, int>> rules;
  for (const PageTransition& rule : kPageTransitions) rules.insert({static_cast<int>(rule.move), static_cast<int>(rule.from)});
  CHECK_EQUAL(rules.size(), kPageTransitions.size());  // no move has two ends
  CHECK_EQUAL(kPageTransitions.size(), 36u);
}

TEST("a remove event changes a page with contents, passes one without, and is put off while the page is in flight") {
  for (const int from : kBytes) {
    Bytes bytes;
    bytes.byte = static_cast<std::uint8_t>(from);
    const PageState before = bytes.record.state(0);
    CHECK_EQUAL(bytes.record.discard(0), before != PageState::in_flight);
    const bool had = before == PageState::resolved || before == PageState::poisoned;
    CHECK_EQUAL(int{bytes.byte}, had ? 0x04 : from);
  }
}

TEST("of many threads that claim a page one gets it, and its claim differs from the others'") {
  constexpr int kRounds = 2000;
  Bytes bytes;
  std::atomic<int> round{0}, ready{0}, won{0}, wrong{0};
  std::vector<std::thread> threads;
  for (int number = 0; number < 3; ++number)
    threads.emplace_back([&, number] {
      const std::uint8_t claim = number == 0 ? kVcpu : PageRecord::reader_claim(static_cast<unsigned>(number));
      for (int mine = 1; mine <= kRounds; ++mine) {
        while (round.load() < mine) std::this_thread::yield();
        if (bytes.record.claim(0, claim)) {
          ++won;
          wrong += !PageRecord::claimed_by(bytes.record.byte(0), claim);
        }
        ++ready;
      }
    });
  for (int mine = 1; mine <= kRounds; ++mine) {
    bytes.byte = mine % 2 == 0 ? 0 : 4;
    ready = 0;
    round = mine;
    while (ready.load() < 3) std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQUAL(won.load(), kRounds);
  CHECK_EQUAL(wrong.load(), 0);
}

TEST("a first touch that comes late leaves the epoch of a reader's claim as it is") {
  for (unsigned epoch = 0; epoch < 8; ++epoch) {
    Bytes bytes;
    const std::uint8_t claim = PageRecord::reader_claim(epoch);
    CHECK(bytes.record.claim(0, claim));
    CHECK(!bytes.record.swap_in(0));
    CHECK(PageRecord::claimed_by(bytes.record.byte(0), claim));
  }
}
