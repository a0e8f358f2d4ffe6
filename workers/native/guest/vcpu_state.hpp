// One vCPU's line in the guest's shared memory: where it is in its access, what it has done, and its request to the page server.
#pragma once

#include <atomic>
#include <cstdint>

#include "kernel/futex.hpp"

namespace uffd {

/// Where a vCPU is in its access; what the watchdog names.
enum class Stage : std::uint32_t {
  idle,
  at_barrier,
  touching,
  raised,
  delivered,
  fetching,
  installing,
  populating,
  thinking,
  between_rounds,
  done
};
const char* stage_name(Stage stage);

enum class RequestState : std::uint32_t {
  free,
  asked,  ///< by the vCPU
  taken,  ///< by the page server, which answers with one of:
  present,
  poisoned,
  failed,
};

/// In place of the index of a record: none is open.
inline constexpr std::uint64_t kNoSlot = ~std::uint64_t{0};

/// One vCPU's line in the shared page. The first cache line is the vCPU's own, the second is written by readers, the third
/// is its request to the page server (a vCPU has at most one outstanding).
struct alignas(64) VcpuState {
  std::atomic<std::uint32_t> tid;
  std::atomic<Stage> stage;
  std::atomic<std::uint64_t> page;
  std::atomic<std::uint64_t> accesses;
  std::atomic<std::uint64_t> faults;
  std::atomic<std::uint64_t> slot;              ///< index of the record of the fault being raised; kNoSlot: it has none
  std::atomic<std::uint64_t> resolved_by_vcpu;  ///< pages of its mapping
  std::atomic<std::uint64_t> first_by_vcpu;     ///< of them, those that no other mapping of the guest had resolved before
  std::atomic<std::uint32_t> finished;          ///< all of its rounds
  std::atomic<std::uint32_t> rounds;            ///< that it has finished

  alignas(64) std::atomic<std::uint64_t> resolved_by_reader;
  std::atomic<std::uint64_t> first_by_reader;
  std::atomic<std::uint64_t> stray_waits;
  std::atomic<std::uint64_t> round_end;  ///< by the vCPU, in ticks: of its latest round

  alignas(64) FutexWord request;  ///< RequestState
  FutexWord request_asleep;       ///< 1 while the vCPU sleeps on `request`: an answer has to wake it
  std::atomic<std::uint32_t> request_pages;
  std::atomic<std::uint64_t> request_page;  ///< and in the answer: the part of the run that is present
  std::atomic<std::uint64_t> wanted_page;   ///< the one of the run that was touched
  std::atomic<std::uint32_t> request_lost;  ///< 1: the contents were complete, and are gone from the page cache
  // By a reader, beside the request because both are rare: an access without a record has slept.
  std::atomic<std::uint64_t> slept;     ///< `accesses` of then, and one more
  std::atomic<std::uint64_t> slept_at;  ///< when its event was read, in ticks
};

}  // namespace uffd
