// Ends a run that makes no progress, and names what it waits for: a vCPU with its page, page state and stage, or what has not
// arrived at the start barrier.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "guest/guest.hpp"
#include "guest/page_record.hpp"

namespace uffd {

class Watchdog {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// Over the `vcpus` vCPUs from `first_vcpu` on, whose mapping `record` is of. `seconds`: how long one may stay where it is; 0:
  /// for ever.
  Watchdog(const Guest& guest, const PageRecord& record, std::uint32_t first_vcpu, std::uint32_t vcpus, double seconds);

  /// Why the run is to be stopped; empty: it is not.
  std::string look(Time now);
  /// What was found of the vCPU: empty unless it is the one that is stuck.
  const std::string& stuck(std::uint32_t vcpu) const { return seen_[vcpu].stuck; }

 private:
  struct Seen {
    std::uint64_t accesses = ~0ull;
    std::uint64_t page = ~0ull;
    Stage stage = Stage::idle;
    Time since;
    std::string stuck;
  };
  bool moved(std::uint32_t vcpu, Time now);
  std::string not_arrived(double seconds) const;

  const Guest& guest_;
  PageRecord record_;
  std::uint32_t first_vcpu_;
  double seconds_;
  std::vector<Seen> seen_;
};

}  // namespace uffd
