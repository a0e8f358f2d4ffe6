// Stamps that a reader has left in a record, as they are after the run.
#include <unistd.h>

#include "check.hpp"
#include "guest/guest.hpp"
#include "vmm/stamps.hpp"

using namespace uffd;

namespace {

/// A measured phase of a millisecond, from `now` on.
struct Measured {
  Guest guest{{.region_bytes = 16 * 4096}};
  TickLine line;
  Ticks now = 0, step = Clock::get().from_ns(1000);

  Measured() {
    line.begin();
    now = Clock::get().now();
    ::usleep(1000);
    line.end();
  }
};

}  // namespace

TEST("a reader's stamps from before or after a fault are none of its, and those of a lost race that came late are dropped") {
  const Measured measured;
  const auto& [guest, line, now, step] = measured;
  FaultRecord records[4]{};
  for (FaultRecord& record : records) {
    record.raised = now + step;
    record.delivered.store(now + 2 * step);
    record.fetched.store(now + 3 * step);
    record.installed.store(now + 4 * step);
    record.resumed = now + 5 * step;
    record.outcome = FaultOutcome::waited;
  }
  records[1].delivered.store(now);
  records[2].fetched.store(now + 6 * step);
  records[3].outcome = FaultOutcome::lost_race;
  records[3].delivered.store(now + 6 * step);
  LongestFault longest;
  convert_stamps(guest, line, records, {}, longest);
  for (const FaultRecord& record : records) CHECK_EQUAL(record.raised, line.to_ns(now + step));
  CHECK_EQUAL(records[0].delivered.load(), line.to_ns(now + 2 * step));
  CHECK_EQUAL(records[0].fetched.load(), line.to_ns(now + 3 * step));
  CHECK_EQUAL(records[0].installed.load(), line.to_ns(now + 4 * step));
  CHECK_EQUAL(records[1].delivered.load(), 0u);
  CHECK_EQUAL(records[1].fetched.load(), line.to_ns(now + 3 * step));
  CHECK_EQUAL(records[2].fetched.load(), 0u);
  CHECK_EQUAL(records[2].delivered.load(), line.to_ns(now + 2 * step));
  for (const auto stage : {&FaultRecord::delivered, &FaultRecord::fetched, &FaultRecord::installed})
    CHECK_EQUAL((records[3].*stage).load(), 0u);
  CHECK_EQUAL(longest.resumed - longest.raised, 4 * step);
}

TEST("a fault without stamps of the guest's own is over when its page is installed, and no later than the round of its vCPU") {
  const Measured measured;
  const auto& [guest, line, now, step] = measured;
  FaultRecord records[4]{};
  for (std::uint32_t i = 0; i < 4; ++i) {
    records[i].delivered.store(now + (10 * i + 1) * step);
    records[i].installed.store(now + (10 * i + 3) * step);
  }
  records[1].installed.store(now + 25 * step);  // its reader was held up: the first round is over, and the next has begun
  const Vcpu::Round rounds[2]{{.start = now, .end = now + 15 * step, .recorded = 2}, {.start = now + 20 * step, .recorded = 4}};
  LongestFault longest;
  convert_stamps(guest, line, records, rounds, longest);
  for (std::uint32_t i = 0; i < 4; ++i) CHECK_EQUAL(records[i].raised, line.to_ns(now + (10 * i + 1) * step));
  CHECK_EQUAL(records[0].resumed, line.to_ns(now + 3 * step));
  CHECK_EQUAL(records[1].resumed, line.to_ns(now + 15 * step));
  CHECK_EQUAL(records[1].installed.load(), line.to_ns(now + 25 * step));
  CHECK_EQUAL(records[2].resumed, line.to_ns(now + 23 * step));
  CHECK_EQUAL(records[3].resumed, line.to_ns(now + 33 * step));  // the last round was given up and has no end
  CHECK_EQUAL(longest.resumed - longest.raised, 4 * step);
}
