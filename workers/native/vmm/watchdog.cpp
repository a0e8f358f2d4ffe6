#include "vmm/watchdog.hpp"

#include <cstdio>

namespace uffd {

namespace {

constexpr std::size_t kMostNamed = 4;  // of the vCPUs that have not arrived

}  // namespace

Watchdog::Watchdog(const Guest& guest, const PageRecord& record, std::uint32_t first_vcpu, std::uint32_t vcpus, double seconds)
    : guest_(guest), record_(record), first_vcpu_(first_vcpu), seconds_(seconds), seen_(vcpus) {}

bool Watchdog::moved(std::uint32_t vcpu, Time now) {
  const VcpuState& state = guest_.vcpu(first_vcpu_ + vcpu);
  Seen& seen = seen_[vcpu];
  const std::uint64_t accesses = state.accesses.load(), page = state.page.load();
  const Stage stage = state.stage.load();
  const bool same = accesses == seen.accesses && page == seen.page && stage == seen.stage;
  if (same && stage != Stage::thinking && stage != Stage::between_rounds && state.finished.load(std::memory_order_acquire) == 0)
    return false;
  seen.accesses = accesses;
  seen.page = page;
  seen.stage = stage;
  seen.since = now;
  return true;
}

std::string Watchdog::look(Time now) {
  for (std::uint32_t i = 0; i < seen_.size() && seconds_ > 0; ++i) {
    if (moved(i, now)) continue;
    const double stood = std::chrono::duration<double>(now - seen_[i].since).count();
    if (stood < seconds_) continue;
    if (seen_[i].stage == Stage::at_barrier) return "stuck: " + not_arrived(stood);
    char text[256];
    if (seen_[i].stage == Stage::idle)
      std::snprintf(text, sizeof text, "vCPU %u has not arrived at the start barrier after %.1f s", first_vcpu_ + i, stood);
    else
      std::snprintf(text, sizeof text, "vCPU %u made no progress for %.1f s: page %llu is %s, stage: %s", first_vcpu_ + i, stood,
                    static_cast<unsigned long long>(seen_[i].page), page_state_name(record_.state(seen_[i].page)),
                    stage_name(seen_[i].stage));
    seen_[i].stuck = text;
    return std::string("stuck: ") + text;
  }
  return {};
}

// A vCPU at the barrier waits for the others: it is not the one that is stuck.
std::string Watchdog::not_arrived(double seconds) const {
  char after[48];
  std::snprintf(after, sizeof after, " after %.1f s", seconds);
  const std::uint32_t vcpus = guest_.config().vcpus, per_vmm = guest_.config().vcpus_per_vmm;
  std::vector<std::uint32_t> missing;
  for (std::uint32_t i = 0; i < vcpus; ++i)
    if (guest_.vcpu(i).stage.load() == Stage::idle) missing.push_back(i);
  if (missing.empty()) return std::string("the start barrier was not opened") + after + ": another guest of the run is not ready";
  std::string names;
  for (std::size_t i = 0; i < missing.size() && i < kMostNamed; ++i)
    names += (i == 0 ? "" : ", ") + std::to_string(missing[i]) + " (VMM process " + std::to_string(missing[i] / per_vmm) + ")";
  if (missing.size() > kMostNamed) names += " and " + std::to_string(missing.size() - kMostNamed) + " more";
  return (missing.size() == 1 ? "vCPU " : "vCPUs ") + names + (missing.size() == 1 ? " has" : " have") +
         " not arrived at the start barrier" + after;
}

}  // namespace uffd
