#include "guest/rounds.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "kernel/clock.hpp"

namespace uffd {

namespace {

constexpr int kAll = 0x7fffffff;
constexpr double kItsWatchdogFirstS = 1.0;
// relaxed: written before `released` and `finished`, or by the thread that reads it.

void raise_to(FutexWord& word, std::uint32_t value) noexcept {
  word.store(value, std::memory_order_release);
  futex_wake(word, kAll);
}

/// Sleeps while `word` is `seen`; not for long.
void sleep_on(FutexWord& word, std::uint32_t seen) noexcept { futex_wait(word, seen, kStopPollNs); }

std::uint64_t round_ns(const Guest& guest) noexcept {
  const Ticks start = guest.header().start.load(kRelaxed);
  Ticks end = start;
  for (std::uint32_t i = 0; i < guest.config().vcpus; ++i)
    end = std::max(end, guest.vcpu(i).round_end.load(std::memory_order_acquire));
  return Clock::get().to_ns(end - start);
}

RoundsEnded ended(const Guest& guest, std::uint32_t finished, const RoundsConfig& config) noexcept {
  const RoundWords& words = guest.header().rounds;
  if (finished >= config.limit) return RoundsEnded::limit;
  if (static_cast<double>(words.measured_ns.load(kRelaxed)) >= config.measure_s * 1e9) return RoundsEnded::measured;
  return words.full.load(std::memory_order_acquire) != 0 ? RoundsEnded::records : RoundsEnded::not_yet;
}

/// Whether some vCPU is at its round's work: it thinks, or is not where it was. `seen`: where they were.
bool at_work(const Guest& guest, std::uint64_t& seen) noexcept {
  std::uint64_t now = 0;
  bool thinks = false;
  for (std::uint32_t i = 0; i < guest.config().vcpus; ++i) {
    const VcpuState& state = guest.vcpu(i);
    const Stage stage = state.stage.load(kRelaxed);  // relaxed: as of a moment ago, all three
    thinks |= stage == Stage::thinking;
    for (const std::uint64_t part : {state.accesses.load(kRelaxed), state.page.load(kRelaxed), static_cast<std::uint64_t>(stage)})
      now = now * 0x9E3779B97F4A7C15ull + part;
  }
  return std::exchange(seen, now) != now || thinks;
}

/// Whether some vCPU has not finished its round.
bool in_round(const Guest& guest) noexcept {
  for (std::uint32_t i = 0; i < guest.config().vcpus; ++i) {
    const Stage stage = guest.vcpu(i).stage.load(kRelaxed);  // relaxed: as of a moment ago
    if (stage != Stage::between_rounds && stage != Stage::done) return true;
  }
  return false;
}

void finish(RoundWords& words, RoundsEnded why) noexcept {
  raise_to(words.over, static_cast<std::uint32_t>(why));
  wake_rounds(words);
}

}  // namespace

bool wait_for_next_round(const Guest& guest, std::uint32_t finished) noexcept {
  RoundWords& words = guest.header().rounds;
  while (!guest.stopping()) {
    const std::uint32_t prepared = words.prepared.load(std::memory_order_acquire);
    if (prepared >= finished) return true;
    if (words.over.load(std::memory_order_acquire) != 0) return false;
    sleep_on(words.prepared, prepared);
  }
  return false;
}

bool meet(const Guest& guest, std::uint32_t step, double patience_s, const char* what) {
  RoundWords& words = guest.header().rounds;
  const std::uint32_t vmms = guest.config().vcpus / guest.config().vcpus_per_vmm;
  if (words.met.fetch_add(1, std::memory_order_acq_rel) + 1 == vmms * step) futex_wake(words.met, kAll);
  // The round of another VMM process may last longer, and its own watchdog looks after it: patience begins when none is at work.
  std::uint64_t began = Clock::monotonic_ns(), seen = 0;
  while (!guest.stopping()) {
    const std::uint32_t met = words.met.load(std::memory_order_acquire);
    if (met >= vmms * step) return true;
    if (at_work(guest, seen)) began = Clock::monotonic_ns();
    // The watchdog of a VMM process whose vCPU stands still in its round has the better reason, and the same time.
    const double longest_s = patience_s + (in_round(guest) ? kItsWatchdogFirstS : 0);
    if (patience_s > 0 && static_cast<double>(Clock::monotonic_ns() - began) > longest_s * 1e9)
      guest.stop(std::string("stuck: between rounds, ") + std::to_string(vmms * step - met) + " of " + std::to_string(vmms) +
                 " VMM processes have not finished: " + what);
    sleep_on(words.met, met);
  }
  return false;
}

void end_round(const Guest& guest, std::uint32_t finished, const RoundsConfig& config) noexcept {
  RoundWords& words = guest.header().rounds;
  words.measured_ns.fetch_add(round_ns(guest), kRelaxed);
  raise_to(words.finished, finished);
  if (guest.config().gated && config.limit > 1) return;
  if (const RoundsEnded why = ended(guest, finished, config); why == RoundsEnded::not_yet)
    decide(guest, finished, true);
  else
    finish(words, why);
}

bool another_round(const Guest& guest, std::uint32_t finished) noexcept {
  RoundWords& words = guest.header().rounds;
  while (!guest.stopping()) {
    const std::uint32_t decided = words.decided.load(std::memory_order_acquire);
    if (decided >= finished) return true;
    if (words.over.load(std::memory_order_acquire) != 0) return false;
    sleep_on(words.decided, decided);
  }
  return false;
}

void prepared_round(const Guest& guest, std::uint32_t finished) noexcept { raise_to(guest.header().rounds.prepared, finished); }

std::uint64_t wait_finished(const Guest& guest, std::uint32_t finished, std::uint64_t timeout_ns) noexcept {
  RoundWords& words = guest.header().rounds;
  const std::uint64_t deadline = Clock::monotonic_ns() + timeout_ns;
  while (!guest.stopping() && Clock::monotonic_ns() < deadline) {
    const std::uint32_t now = words.finished.load(std::memory_order_acquire);
    if (now >= finished) return std::max<std::uint64_t>(words.measured_ns.load(kRelaxed), 1);
    sleep_on(words.finished, now);
  }
  return 0;
}

void decide(const Guest& guest, std::uint32_t finished, bool another) noexcept {
  RoundWords& words = guest.header().rounds;
  if (another)
    raise_to(words.decided, finished);
  else
    finish(words, RoundsEnded::outside);
}

const char* rounds_ended_name(const Guest& guest) noexcept {
  switch (static_cast<RoundsEnded>(guest.header().rounds.over.load(std::memory_order_acquire))) {
    case RoundsEnded::not_yet: return "";
    case RoundsEnded::measured: return "measure_s";
    case RoundsEnded::limit: return "rounds_limit";
    case RoundsEnded::records: return "records";
    case RoundsEnded::outside: return "measure_s of all guests";
  }
  return "?";
}

}  // namespace uffd
