// What happened beside the faults themselves, counted by each thread for itself and summed after it has ended.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace uffd {

enum class Counter : std::size_t {
  // vCPUs. Every trip ends in one of: resolved, lost, resolved again, populated, retried, memory error, stopped.
  trips,            // exits and their handling
  trips_resolved,   // the page was installed by this trip
  trips_lost,       // its resolve returned EEXIST: another thread's was faster
  trips_stopped,    // the run was being stopped
  resolved_again,   // a page resolved before was installed once more (by a trip, or for an event): reclaimed, or dropped
  populate_ok,      // MADV_POPULATE_WRITE repaired it
  retries,          // answered by running again: in flight on another thread, or just settled
  memory_errors,    // the guest got a memory error
  lost_races,       // faults that another thread's resolve ended
  eexist,           // a resolve returned EEXIST
  eagain,           // a resolve returned EAGAIN: layout changing, or partial
  partial,          // a resolve did part of its block
  efault,           // a resolve returned EFAULT: the contents are not there
  esrch,            // the registering process is gone
  populate_failed,  // MADV_POPULATE_WRITE failed
  pages_poisoned,   // UFFDIO_POISON: pages poisoned in a mapping
  page_waits,       // sleeps until a page that another thread had in flight was settled
  requests,         // asked of the page server through the ring
  requests_failed,
  // Readers. Every event ends in one of: resolved, resolved again, lost, poisoned, dropped.
  events,            // page fault events read
  events_resolved,   // the page was installed for it
  events_lost,       // mapped already: only woken
  events_poisoned,   // the page was poisoned for it
  events_dropped,    // not answered: the run was being stopped, the process had gone, or the page server was killed
  reads,             // system calls that read at least one event
  reads_empty,       // nothing was there: tried without a wait, or another reader was faster
  wakes,             // UFFDIO_WAKE
  deferred,          // events put off: the page was in flight on another thread
  fetched_pages,     // contents made by the page server
  delays,            // fetches that were delayed on purpose
  delay_ns,          // their achieved delays, summed
  prefetched_pages,  // brought by the background stream: installed, or (file_map) read into the page cache
  prefetch_late,     // resolved by another thread before the prefetcher reached them
  prefetch_skipped,  // resolved before the prefetcher came to them
  served_pages,      // of a foreign VMM: pages installed for an event, each the first time
  zero_pages,        // of a foreign VMM: pages installed as zeros, by UFFDIO_ZEROPAGE
  populate_waits,    // events of a vCPU asleep inside its own populate
  stray_waits,       // events of a vCPU whose strategy was meant to avoid sleeping
  unknown_events,    // events outside every region, or of a kind not asked for
  abandoned,         // accesses given up because the run was stopped
  records_dropped,   // faults without a slot left
  eagain_changing,   // of eagain: nothing was done, a remove event is pending or the layout is changing
  contents_lost,     // pages found without their contents, though those had been complete: made again
  removes,           // remove events read
  pages_discarded,   // pages they took away
  device_waits,      // events of a thread that is no vCPU: it cannot exit
  device_resolved,   // pages resolved for one
  // Disturbances.
  pages_dropped,    // by the balloon
  compactions,      // by the migrator, that came to their end
  blocks_offlined,  // memory blocks it had taken offline and brought back
  pages_migrated,   // guest pages whose frame was another one afterwards
  maps,             // stretches mapped and unmapped
  device_accesses,  // by system call
  device_sleeps,    // of them, slept in the kernel: for a page, or for the mmap_lock
  device_refused,   // of them, EFAULT: the mapping refuses to sleep for them
  device_poisoned,  // of them, EFAULT: the page is poisoned
  // Emulated operations (resolve/emulation.hpp), by the vCPU that makes them.
  emulated_probes_missed,
  emulated_probes_found,
  emulated_signals,
  emulated_populates_refused,
  emulated_populates_done,
  waiting_cpu_ns,  // CPU time of vCPUs until an access was due: spun, or spent on a timer
  count
};

inline constexpr std::array<const char*, static_cast<std::size_t>(Counter::count)> kCounterNames{"trips",
                                                                                                 "trips_resolved",
                                                                                                 "trips_lost",
                                                                                                 "trips_stopped",
                                                                                                 "resolved_again",
                                                                                                 "populate_ok",
                                                                                                 "retries",
                                                                                                 "memory_errors",
                                                                                                 "lost_races",
                                                                                                 "eexist",
                                                                                                 "eagain",
                                                                                                 "partial",
                                                                                                 "efault",
                                                                                                 "esrch",
                                                                                                 "populate_failed",
                                                                                                 "pages_poisoned",
                                                                                                 "page_waits",
                                                                                                 "requests",
                                                                                                 "requests_failed",
                                                                                                 "events",
                                                                                                 "events_resolved",
                                                                                                 "events_lost",
                                                                                                 "events_poisoned",
                                                                                                 "events_dropped",
                                                                                                 "reads",
                                                                                                 "reads_empty",
                                                                                                 "wakes",
                                                                                                 "deferred",
                                                                                                 "fetched_pages",
                                                                                                 "delays",
                                                                                                 "delay_ns",
                                                                                                 "prefetched_pages",
                                                                                                 "prefetch_late",
                                                                                                 "prefetch_skipped",
                                                                                                 "served_pages",
                                                                                                 "zero_pages",
                                                                                                 "populate_waits",
                                                                                                 "stray_waits",
                                                                                                 "unknown_events",
                                                                                                 "abandoned",
                                                                                                 "records_dropped",
                                                                                                 "eagain_changing",
                                                                                                 "contents_lost",
                                                                                                 "removes",
                                                                                                 "pages_discarded",
                                                                                                 "device_waits",
                                                                                                 "device_resolved",
                                                                                                 "pages_dropped",
                                                                                                 "compactions",
                                                                                                 "blocks_offlined",
                                                                                                 "pages_migrated",
                                                                                                 "maps",
                                                                                                 "device_accesses",
                                                                                                 "device_sleeps",
                                                                                                 "device_refused",
                                                                                                 "device_poisoned",
                                                                                                 "emulated_probes_missed",
                                                                                                 "emulated_probes_found",
                                                                                                 "emulated_signals",
                                                                                                 "emulated_populates_refused",
                                                                                                 "emulated_populates_done",
                                                                                                 "waiting_cpu_ns"};

class alignas(64) Counters {
 public:
  std::uint64_t& operator[](Counter counter) noexcept { return values_[static_cast<std::size_t>(counter)]; }
  std::uint64_t operator[](Counter counter) const noexcept { return values_[static_cast<std::size_t>(counter)]; }
  /// Events that have come to one of their ends.
  std::uint64_t events_ended() const noexcept {
    return (*this)[Counter::events_resolved] + (*this)[Counter::resolved_again] + (*this)[Counter::events_lost] +
           (*this)[Counter::events_poisoned] + (*this)[Counter::events_dropped];
  }
  Counters& operator+=(const Counters& other) noexcept {
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i] += other.values_[i];
    return *this;
  }

 private:
  std::array<std::uint64_t, static_cast<std::size_t>(Counter::count)> values_{};
};

}  // namespace uffd
