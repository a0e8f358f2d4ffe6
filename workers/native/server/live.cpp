#include "server/live.hpp"

#include <algorithm>

namespace uffd {

namespace {

// relaxed: what a look shows may be a moment old. Records are read behind `faults`, `start` behind `released`, both acquired.
// A look takes this many new records at most of a vCPU, evenly spread: under a millisecond, however fast the faults come.
constexpr std::uint64_t kMostRecordsPerLook = 1 << 14;

/// Measured so far: the rounds that are over, and what has passed of the one under way.
double measured_s(const SharedHeader& shared, const Clock& clock) {
  const double before = static_cast<double>(shared.rounds.measured_ns.load(kRelaxed)) / 1e9;
  if (shared.released.load(std::memory_order_acquire) <= shared.rounds.finished.load(std::memory_order_acquire)) return before;
  return before + static_cast<double>(clock.now() - shared.start.load(kRelaxed)) / clock.ticks_per_s();
}

}  // namespace

Live::Live(const Guest& guest)
    : guest_(guest),
      vmms_(guest.config().vcpus / guest.config().vcpus_per_vmm),
      seen_(guest.config().vcpus),
      taken_(guest.config().vcpus) {}

void Live::watch(std::uint32_t vmm, const FaultRecord* records, std::uint64_t slots_per_vcpu, PageRecord pages) {
  if (vmm >= vmms_.size() || vmms_[vmm].known) return;
  vmms_[vmm] = {records, slots_per_vcpu, pages, true};
}

// Records below the count of faults are closed and never written again: `faults` was stored, with release order, after them.
void Live::take_records(std::uint32_t vcpu, std::uint64_t faults) {
  const std::uint32_t per_vmm = guest_.config().vcpus_per_vmm;
  const Watched& watched = vmms_[vcpu / per_vmm];
  if (watched.records == nullptr || watched.slots_per_vcpu == 0) return;
  const std::uint64_t every = std::max<std::uint64_t>(guest_.header().sample_every.load(kRelaxed), 1);
  // The slot after the last is the scratch slot.
  const std::uint64_t closed = std::min((faults + every - 1) / every, watched.slots_per_vcpu - 1);
  const FaultRecord* records = watched.records + (vcpu % per_vmm) * watched.slots_per_vcpu;
  const auto kinds = guest_.kinds();
  std::uint64_t& taken = taken_[vcpu];
  const std::uint64_t stride = (closed - taken) / kMostRecordsPerLook + 1;
  for (; taken + stride <= closed; taken += stride) {
    const FaultRecord& record = records[taken];
    if (record.resumed > record.raised) latencies_.add(record.resumed - record.raised, stride);
    const std::uint32_t page = record.page.load(kRelaxed);
    if (page < kinds.size() && kinds[page] < by_kind_.size()) by_kind_[kinds[page]] += stride * every;
  }
}

Live::Look Live::look() {
  const auto now = std::chrono::steady_clock::now();
  Look look;
  const Clock& clock = Clock::get();
  const SharedHeader& shared = guest_.header();
  if (shared.released.load(std::memory_order_acquire) != 0) look.seconds = measured_s(shared, clock);
  for (std::uint32_t i = 0; i < guest_.config().vcpus; ++i) {
    const VcpuState& state = guest_.vcpu(i);
    const std::uint64_t faults = state.faults.load(std::memory_order_acquire);
    const bool started = state.tid.load(kRelaxed) != 0;
    const bool finished = state.finished.load(kRelaxed) != 0;
    const Seen here{state.accesses.load(kRelaxed), state.page.load(kRelaxed), state.stage.load(kRelaxed), now};
    look.accesses += here.accesses;
    look.faults += faults;
    look.pages_resolved += state.first_by_vcpu.load(kRelaxed) + state.first_by_reader.load(kRelaxed);
    look.finished += finished;
    look.running += started && !finished;
    take_records(i, faults);

    Seen& seen = seen_[i];
    const bool moved = here.accesses != seen.accesses || here.page != seen.page || here.stage != seen.stage;
    if (!started || finished || moved || here.stage == Stage::thinking || here.stage == Stage::between_rounds) {
      seen = here;
      continue;
    }
    const Watched& watched = vmms_[i / guest_.config().vcpus_per_vmm];
    look.standing.push_back({i, here.page, watched.known ? page_state_name(watched.pages.state(here.page)) : "",
                             stage_name(here.stage), std::chrono::duration<double>(now - seen.since).count()});
  }
  look.faults_by_kind = by_kind_;
  look.latency_p99_ns = static_cast<double>(latencies_.quantile(0.99)) * 1e9 / clock.ticks_per_s();
  return look;
}

}  // namespace uffd
