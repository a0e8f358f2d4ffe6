// What happened beside the faults themselves, counted by each thread for itself and summed after it has ended.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace uffd {

enum class Counter : std::size_t {
  trips,             // exits and their handling
  lost_races,        // somebody else resolved the page first
  eexist,            // a resolve said EEXIST
  eagain,            // a resolve said EAGAIN: layout changing, or partial
  partial,           // a resolve did part of its block
  efault,            // a resolve said EFAULT: the contents are not there
  esrch,             // the registering process is gone
  resolved_again,    // reclaimed pages installed once more
  retries,           // exits answered by running again
  populate_ok,
  populate_failed,
  memory_errors,
  requests,          // asked of the page server through the ring
  requests_failed,
  events,            // page fault events read
  reads,             // system calls that read at least one event
  reads_empty,       // woken, and another reader was faster
  wakes,             // UFFDIO_WAKE
  deferred,          // events put off: the page was in somebody's hands
  fetched_pages,     // contents made by the page server
  delays,            // fetches that were delayed on purpose
  delay_ns,          // their achieved delays, summed
  stray_waits,       // events of a vCPU whose strategy was meant to avoid sleeping
  unknown_events,    // events outside every region, or of a kind not asked for
  abandoned,         // accesses given up because the run was stopped
  records_dropped,   // faults without a slot left
  count
};

inline constexpr std::array<const char*, static_cast<std::size_t>(Counter::count)> kCounterNames{
    "trips",       "lost_races",  "eexist",          "eagain",        "partial",         "efault",        "esrch",
    "resolved_again", "retries",  "populate_ok",     "populate_failed", "memory_errors", "requests",      "requests_failed",
    "events",      "reads",       "reads_empty",     "wakes",         "deferred",        "fetched_pages", "delays",
    "delay_ns",    "stray_waits", "unknown_events",  "abandoned",     "records_dropped"};

class alignas(64) Counters {
 public:
  std::uint64_t& operator[](Counter counter) noexcept { return values_[static_cast<std::size_t>(counter)]; }
  std::uint64_t operator[](Counter counter) const noexcept { return values_[static_cast<std::size_t>(counter)]; }
  Counters& operator+=(const Counters& other) noexcept {
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i] += other.values_[i];
    return *this;
  }

 private:
  std::array<std::uint64_t, static_cast<std::size_t>(Counter::count)> values_{};
};

}  // namespace uffd
