// What a run is doing right now, from the memory its processes share anyway. The page server's process looks, twice a second
// at most; nothing is added to the fault path.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "guest/fault_record.hpp"
#include "guest/guest.hpp"
#include "guest/page_record.hpp"
#include "kernel/duration_histogram.hpp"

namespace uffd {

class Live {
 public:
  explicit Live(const Guest& guest);

  /// A VMM process's fault records and its page record, which must stay mapped. The first call for a VMM process counts.
  void watch(std::uint32_t vmm, const FaultRecord* records, std::uint64_t slots_per_vcpu, PageRecord pages);

  /// A vCPU that is in the same place of the same access as `seconds` ago.
  struct Standing {
    std::uint32_t vcpu = 0;
    std::uint64_t page = 0;
    const char* page_state = "";  ///< empty when its VMM process has sent no page record
    const char* stage = "";
    double seconds = 0.0;
  };
  struct Look {
    double seconds = 0.0;  ///< since the common start; 0 before it
    std::uint64_t accesses = 0, faults = 0, pages_resolved = 0, running = 0, finished = 0;
    std::array<std::uint64_t, kKindNames.size()> faults_by_kind{};  ///< scaled up from the faults that left a record
    double latency_p99_ns = 0.0;                                    ///< so far, of the recorded faults; 0 without one
    std::vector<Standing> standing;                                 ///< vCPUs that have not moved since the last look
  };
  /// One caller at a time.
  Look look();

 private:
  struct Watched {
    const FaultRecord* records = nullptr;
    std::uint64_t slots_per_vcpu = 0;
    PageRecord pages;
    bool known = false;
  };
  struct Seen {
    std::uint64_t accesses = ~0ull, page = ~0ull;
    Stage stage = Stage::idle;
    std::chrono::steady_clock::time_point since;
  };
  void take_records(std::uint32_t vcpu, std::uint64_t faults);

  const Guest& guest_;
  std::vector<Watched> vmms_;
  std::vector<Seen> seen_;            ///< by vCPU
  std::vector<std::uint64_t> taken_;  ///< records looked at, by vCPU
  DurationHistogram latencies_;
  std::array<std::uint64_t, kKindNames.size()> by_kind_{};
};

}  // namespace uffd
