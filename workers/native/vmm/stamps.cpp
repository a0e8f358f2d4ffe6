#include "vmm/stamps.hpp"

#include <algorithm>

namespace uffd {

namespace {

/// A guest whose counter is not the host's has left no stamps of its own: its fault is raised when it arrives and over when the
/// page is installed. A reader stamps that after it has woken the vCPU, which may have ended its round by then.
void complete(FaultRecord& record, Ticks round_end) noexcept {
  if (record.raised == 0) record.raised = record.delivered.load();
  if (record.resumed == 0) record.resumed = std::min(std::max(record.raised, record.installed.load()), round_end);
}

}  // namespace

void convert_stamps(const Guest& guest, const TickLine& line, std::span<FaultRecord> records, std::span<const Vcpu::Round> rounds,
                    LongestFault& longest) noexcept {
  auto round = rounds.begin();
  for (std::size_t i = 0; i < records.size(); ++i) {
    FaultRecord& record = records[i];
    while (round != rounds.end() && i >= round->recorded) ++round;
    record.kind = static_cast<Kind>(guest.kinds()[record.page.load()]);
    complete(record, round != rounds.end() && round->end != 0 ? round->end : ~Ticks{0});  // before any of them is converted
    longest.add(record.raised, record.resumed);
    // A reader that came after the vCPU had gone on has stamped an event that no vCPU waited for any more.
    const bool late = record.outcome == FaultOutcome::lost_race && record.delivered.load() > record.resumed;
    // A reader that was held up stamps what it fetched, or an event on the page of an earlier access, outside of this one.
    for (auto stage : {&FaultRecord::delivered, &FaultRecord::fetched})
      if (const Ticks at = (record.*stage).load(); at < record.raised || at > record.resumed) (record.*stage).store(0);
    for (auto stage : {&FaultRecord::delivered, &FaultRecord::fetched, &FaultRecord::installed})
      (record.*stage).store(late ? 0 : line.to_ns((record.*stage).load()));
    record.intended = line.to_ns(record.intended);
    record.raised = line.to_ns(record.raised);
    record.resumed = line.to_ns(record.resumed);
  }
}

}  // namespace uffd
