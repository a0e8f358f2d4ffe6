#include "binding/reports.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>

#include "kernel/clock.hpp"

namespace uffd {

namespace nb = nanobind;

namespace {

nb::dict to_dict(const ThreadUsage& usage) {
  nb::dict out;
  out["user_ns"] = usage.user_ns;
  out["system_ns"] = usage.system_ns;
  out["voluntary_switches"] = usage.voluntary_switches;
  out["involuntary_switches"] = usage.involuntary_switches;
  out["minor_faults"] = usage.minor_faults;
  out["major_faults"] = usage.major_faults;
  return out;
}

void put_progress(nb::dict& entry, const Vcpu& vcpu, const TickLine& line) {
  nb::list at, accesses, pages, ends;
  for (const Milestones::Mark& mark : vcpu.milestones().marks()) {
    at.append(line.to_ns(mark.at));
    accesses.append(mark.accesses);
    pages.append(mark.pages);
  }
  for (const Ticks end : vcpu.pass_ends()) ends.append(line.to_ns(end));
  entry["mark_ns"] = at;
  entry["mark_accesses"] = accesses;
  entry["mark_pages"] = pages;
  entry["pass_end_ns"] = ends;
  entry["longest_fault_ns"] = line.to_ns(vcpu.longest().resumed) - line.to_ns(vcpu.longest().raised);
}

nb::dict region(std::uint64_t address, std::uint64_t size, std::uint64_t offset, std::uint64_t page_bytes) {
  nb::dict region;
  region["base_host_virt_addr"] = address;
  region["size"] = size;
  region["offset"] = offset;
  region["page_size"] = page_bytes;
  return region;
}

}  // namespace

nb::dict to_dict(const Counters& counters) {
  nb::dict out;
  for (std::size_t i = 0; i < kCounterNames.size(); ++i) out[kCounterNames[i]] = counters[static_cast<Counter>(i)];
  return out;
}

nb::dict to_dict(const Calibration& calibration) {
  nb::dict out;
  const auto put = [&out](const char* median, const char* spread, const Cost& cost) {
    out[median] = cost.median_ns;
    out[spread] = cost.spread_ns;
  };
  put("exit_ns", "exit_spread_ns", calibration.exit);
  put("slow_gup_ns", "slow_gup_spread_ns", calibration.slow_gup);
  put("entry_ns", "entry_spread_ns", calibration.entry);
  out["arrival_ns"] = calibration.arrival_ns;
  return out;
}

nb::dict to_dict(const Source& source) {
  nb::dict out;
  if (source.remote() == nullptr) return out;
  const SourceCounts counts = source.remote()->counts();
  out["on_demand"] = counts.on_demand;
  out["pushed"] = counts.pushed;
  out["twice"] = counts.twice;
  out["requests"] = counts.requests;
  out["retries"] = counts.retries;
  out["bytes"] = counts.bytes;
  out["rtt_p50_us"] = counts.rtt_p50_us;
  return out;
}

nb::dict to_dict(const Served& served) {
  nb::dict out;
  out["connections"] = served.connections;
  out["requests"] = served.requests;
  out["pages"] = served.pages;
  out["pages_pushed"] = served.pages_pushed;
  out["refused"] = served.refused;
  out["last_refusal"] = served.last_refusal;
  return out;
}

nb::dict to_dict(const Live::Look& look) {
  nb::dict out;
  out["seconds"] = look.seconds;
  out["accesses"] = look.accesses;
  out["faults"] = look.faults;
  out["pages_resolved"] = look.pages_resolved;
  out["running"] = look.running;
  out["finished"] = look.finished;
  nb::dict kinds;
  for (std::size_t i = 0; i < kKindNames.size(); ++i) kinds[kKindNames[i]] = look.faults_by_kind[i];
  out["faults_by_kind"] = kinds;
  out["latency_p99_ns"] = look.latency_p99_ns > 0.0 ? nb::cast(look.latency_p99_ns) : nb::none();
  nb::list standing;
  for (const Live::Standing& one : look.standing) {
    nb::dict entry;
    entry["vcpu"] = one.vcpu;
    entry["page"] = one.page;
    entry["page_state"] = one.page_state;
    entry["stage"] = one.stage;
    entry["seconds"] = one.seconds;
    standing.append(entry);
  }
  out["standing"] = standing;
  return out;
}

void put_rounds(nb::dict& entry, const Vcpu& vcpu, const TickLine& line) {
  nb::list starts, ends, pages, cpu, recorded;
  std::uint64_t resolved = 0;
  for (const Vcpu::Round& round : vcpu.rounds()) {
    starts.append(line.to_ns(round.start));
    ends.append(line.to_ns(round.end));
    pages.append(round.resolved - resolved);
    resolved = round.resolved;
    cpu.append(round.cpu_ns);
    recorded.append(round.recorded);
  }
  if (vcpu.start() > (vcpu.rounds().empty() ? 0 : vcpu.rounds().back().start)) starts.append(line.to_ns(vcpu.start()));
  entry["round_start_ns"] = starts;
  entry["round_end_ns"] = ends;
  entry["round_pages"] = pages;
  entry["round_cpu_ns"] = cpu;
  entry["round_recorded"] = recorded;
}

nb::list vmm_vcpus(const Vmm& vmm) {
  nb::list out;
  for (std::uint32_t i = 0; i < vmm.vcpus().size(); ++i) {
    const Vcpu& vcpu = *vmm.vcpus()[i];
    const VcpuState& state = vcpu.state();
    nb::dict entry = to_dict(vcpu.counters());
    entry["vcpu"] = vcpu.index();
    entry["tid"] = state.tid.load();
    entry["accesses"] = state.accesses.load();
    entry["faults"] = state.faults.load();
    entry["recorded"] = vcpu.recorded();
    entry["pages_resolved"] = state.resolved_by_vcpu.load() + state.resolved_by_reader.load();
    entry["guest_pages_resolved"] = state.first_by_vcpu.load() + state.first_by_reader.load();
    entry["stray_waits"] = state.stray_waits.load();
    entry["start_ns"] = vmm.line().to_ns(vcpu.first_start());
    entry["end_ns"] = vmm.line().to_ns(vcpu.end());
    entry["cpus"] = vcpu.cpus_seen();
    entry["wrong_words"] = vcpu.wrong_words();
    entry["first_wrong"] = vcpu.first_wrong();
    entry["bookkeeping_ns"] = Clock::get().to_ns(vcpu.bookkeeping());
    entry["stuck"] = vmm.stuck(i);
    entry["failure"] = vcpu.failure();
    entry["usage"] = to_dict(vcpu.usage());
    const LockReads reads = vcpu.locks().reads();
    for (std::size_t cause = 0; cause < reads.size(); ++cause)
      entry[(std::string("mmap_lock_reads_") + kLockCauseNames[cause]).c_str()] =
          vcpu.locks().valid() ? nb::object(nb::int_(reads[cause])) : nb::none();
    put_progress(entry, vcpu, vmm.line());
    put_rounds(entry, vcpu, vmm.line());
    out.append(entry);
  }
  return out;
}

nb::list vmm_disturbers(const Vmm& vmm) {
  const Clock& clock = Clock::get();
  nb::list out;
  for (const Disturbances::Thread& thread : vmm.disturbers()) {
    nb::dict entry = to_dict(thread.work->counters);
    entry["role"] = thread.role;
    entry["number"] = thread.number;
    entry["tid"] = thread.tid;
    entry["cpus"] = thread.seen.list();
    entry["usage"] = to_dict(thread.usage);
    entry["done"] = thread.work->done;
    entry["rate_per_s"] = thread.rate_per_s;
    entry["seconds"] = static_cast<double>(thread.ended - thread.began - thread.work->rested) / clock.ticks_per_s();
    entry["wrong_words"] = thread.work->wrong_words;
    entry["first_wrong"] = thread.work->first_wrong;
    nb::list sleeps;
    for (const auto& [ticks, count] : thread.work->sleeps.buckets()) sleeps.append(nb::make_tuple(clock.to_ns(ticks), count));
    entry["sleeps_ns"] = sleeps;
    entry["longest_sleep_ns"] = clock.to_ns(thread.work->longest_sleep);
    out.append(entry);
  }
  return out;
}

nb::object vmm_device_userfaultfd(const Vmm& vmm) {
  const DeviceMapping* mapping = vmm.device_mapping();
  if (mapping == nullptr) return nb::none();
  nb::list regions;
  regions.append(region(mapping->region.address(), mapping->region.bytes(), 0, vmm.page_bytes()));
  return nb::make_tuple(mapping->uffd.fd(), regions, mapping->record_fd.get());
}

nb::list vmm_userfaultfds(const Vmm& vmm) {
  const std::uint64_t page_bytes = vmm.page_bytes();
  nb::list out;
  for (const auto& uffd : vmm.userfaultfds()) {
    nb::list regions;
    for (const Shard& shard : vmm.shards())
      if (shard.uffd == uffd.get())
        regions.append(region(shard.address, shard.pages * page_bytes, shard.first_page * page_bytes, page_bytes));
    out.append(nb::make_tuple(uffd->fd(), regions));
  }
  return out;
}

nb::dict to_dict(const Filled& filled) {
  nb::dict out;
  out["filled"] = filled.filled;
  out["unprepared"] = filled.unprepared;
  out["seconds"] = filled.seconds;
  return out;
}

nb::dict to_dict(const Prepared& prepared) {
  nb::dict out;
  for (std::size_t i = 0; i < kKindNames.size(); ++i) out[kKindNames[i]] = prepared.pages[i];
  out["unprepared"] = prepared.unprepared;
  out["seconds"] = prepared.seconds;
  return out;
}

nb::dict to_dict(const Verified& verified) {
  nb::dict out;
  out["pages"] = verified.pages;
  out["poisoned"] = verified.poisoned;
  out["gone"] = verified.gone;
  out["wrong_words"] = verified.wrong_words;
  out["first_wrong"] = verified.first_wrong;
  out["seconds"] = verified.seconds;
  return out;
}

nb::dict to_dict(const PageStates& states) {
  nb::dict out;
  for (std::size_t i = 0; i < states.size(); ++i) out[kPageStateNames[i]] = states[i];
  return out;
}

nb::dict prefetch_marks(const PageServer& server) {
  nb::list at, pages;
  for (const PrefetchMark& mark : server.prefetch_marks()) {
    at.append(mark.at);
    pages.append(mark.pages);
  }
  nb::dict out;
  out["prefetch_mark_ns"] = at;
  out["prefetch_mark_pages"] = pages;
  return out;
}

nb::tuple logged_faults(const PageServer& server) {
  const std::vector<std::byte> records = server.logged_faults();
  const std::vector<std::uint32_t> tids = server.logged_tids();
  return nb::make_tuple(nb::bytes(records.data(), records.size()), nb::bytes(tids.data(), tids.size() * sizeof(std::uint32_t)));
}

nb::list server_threads(const PageServer& server) {
  nb::list out;
  for (std::size_t i = 0; i < server.threads().size(); ++i) {
    const ThreadInfo& info = server.threads()[i];
    if (info.tid == 0) continue;  // no userfaultfd, no reader
    nb::dict entry = to_dict(*info.counters);
    const ThreadName name = server.name_of(i);
    entry["role"] = name.role;
    entry["number"] = name.number;
    entry["tid"] = info.tid;
    entry["cpus"] = info.seen.list();
    entry["usage"] = to_dict(info.usage);
    out.append(entry);
  }
  return out;
}

nb::object fault_dtype() {
  const auto numpy = nb::module_::import_("numpy");
  nb::list names, formats, offsets;
  std::size_t offset = 0;
  const auto field = [&](const char* name, const char* format, std::size_t bytes) {
    names.append(name);
    formats.append(format);
    offsets.append(offset);
    offset += bytes;
  };
  for (const char* name : {"intended_ns", "raised_ns", "delivered_ns", "fetched_ns", "installed_ns", "resumed_ns"})
    field(name, "<u8", 8);
  field("page", "<u4", 4);
  field("cpu", "<u2", 2);
  field("kind", "u1", 1);
  field("outcome", "u1", 1);
  field("exit", "u1", 1);
  field("emulated_exits", "u1", 1);
  field("emulated_entries", "u1", 1);
  field("write", "?", 1);
  nb::dict layout;
  layout["names"] = names;
  layout["formats"] = formats;
  layout["offsets"] = offsets;
  layout["itemsize"] = sizeof(FaultRecord);
  return numpy.attr("dtype")(layout);
}

nb::object vcpu_records(nb::object self, std::uint32_t index) {
  const Vmm& vmm = nb::cast<const Vmm&>(self);
  if (index >= vmm.vcpus().size()) throw nb::index_error("the VMM process has no such vCPU");
  const Vcpu& vcpu = *vmm.vcpus()[index];
  nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<1>> bytes(vcpu.records(), {vcpu.recorded() * sizeof(FaultRecord)}, self);
  return nb::cast(bytes).attr("view")(fault_dtype());
}

}  // namespace uffd
