// Python's view of the core: translation only. Every long call releases the GIL, nothing crosses per fault.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>

#include "error.hpp"
#include "fill.hpp"
#include "kvm/probe.hpp"
#include "page_server.hpp"
#include "snapshot.hpp"
#include "source_server.hpp"
#include "thread_engine.hpp"
#include "vmm.hpp"

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace uffd {
namespace {

// --- configuration dictionaries: each key is taken once, what is left over is a mistake --------------------------------

class Keys {
 public:
  Keys(nb::dict dict, std::string of) : left_(nb::steal<nb::dict>(PyDict_Copy(dict.ptr()))), of_(std::move(of)) {}
  template <typename T>
  void take(const char* key, T& into) {
    if (!left_.contains(key)) return;
    try {
      into = nb::cast<T>(left_[key]);
    } catch (const nb::cast_error&) {
      throw ConfigError(of_ + "." + key + " has a value of the wrong type: " + nb::repr(left_[key]).c_str());
    }
    nb::del(left_[key]);
  }
  bool contains(const char* key) const { return left_.contains(key); }
  nb::object pop(const char* key) {
    nb::object value = nb::borrow(left_[key]);
    nb::del(left_[key]);
    return value;
  }
  void finish() const {
    if (left_.size() != 0) throw ConfigError(of_ + " has unknown keys: " + nb::repr(left_.keys()).c_str());
  }

 private:
  nb::dict left_;
  std::string of_;
};

GuestConfig guest_config(nb::dict dict) {
  Keys keys(dict, "guest");
  GuestConfig config;
  std::string memory = "shmem";
  keys.take("memory_type", memory);
  config.memory = memory_type(memory);
  keys.take("region_bytes", config.region_bytes);
  keys.take("page_bytes", config.page_bytes);
  keys.take("transparent_huge_pages", config.transparent_huge_pages);
  keys.take("vcpus", config.vcpus);
  keys.take("vcpus_per_vmm", config.vcpus_per_vmm);
  keys.take("seed", config.seed);
  keys.take("contents_seed", config.contents_seed);
  keys.take("fault_around_pages", config.fault_around_pages);
  keys.take("poisoned_when_resolved", config.poisoned_when_resolved);
  keys.take("rings", config.rings);
  keys.take("server_threads", config.server_threads);
  keys.take("gated", config.gated);
  keys.take("drops", config.drops);
  keys.finish();
  return config;
}

SourceConfig source_config(nb::dict dict) {
  Keys keys(dict, "source");
  SourceConfig config;
  keys.take("name", config.name);
  keys.take("file", config.file);
  keys.take("cold", config.cold);
  keys.take("host", config.remote.host);
  keys.take("port", config.remote.port);
  keys.take("connections", config.remote.connections);
  keys.take("push", config.remote.push);
  keys.take("batch_pages", config.remote.batch_pages);
  keys.take("push_mib_per_s", config.remote.push_mib_per_s);
  keys.take("timeout_s", config.remote.timeout_s);
  keys.take("retries", config.remote.retries);
  keys.finish();
  return config;
}

SourceServerConfig source_server_config(nb::dict dict) {
  Keys keys(dict, "source");
  SourceServerConfig config;
  keys.take("host", config.host);
  keys.take("port", config.port);
  keys.take("region_bytes", config.region_bytes);
  keys.take("page_bytes", config.page_bytes);
  keys.take("seed", config.seed);
  keys.take("rtt_us", config.rtt_us);
  keys.finish();
  return config;
}

Inject inject_config(nb::dict dict) {
  Keys keys(dict, "inject");
  Inject inject;
  keys.take("drop_events_share", inject.drop_events_share);
  keys.take("wake_every_ms", inject.wake_every_ms);
  keys.take("contents_bit", inject.contents_bit);
  keys.take("fill_pause_us", inject.fill_pause_us);
  keys.take("vanish_after_events", inject.vanish_after_events);
  keys.finish();
  return inject;
}

std::vector<std::uint32_t> page_numbers(const nb::object& pages) {
  std::vector<std::uint32_t> out;
  for (const nb::handle page : pages) out.push_back(nb::cast<std::uint32_t>(nb::int_(nb::borrow(page))));
  return out;
}

PrefetchConfig prefetch_config(nb::dict dict) {
  Keys keys(dict, "prefetch");
  PrefetchConfig config;
  keys.take("name", config.name);
  keys.take("batch_pages", config.batch_pages);
  keys.take("mib_per_s", config.mib_per_s);
  keys.take("cpus", config.cpus);
  if (keys.contains("pages")) config.pages = page_numbers(keys.pop("pages"));
  keys.finish();
  return config;
}

PageServerConfig server_config(nb::dict dict) {
  Keys keys(dict, "page_server");
  PageServerConfig config;
  keys.take("readers", config.readers);
  keys.take("wait", config.wait);
  keys.take("events_per_read", config.events_per_read);
  keys.take("delay_us", config.delay_us);
  keys.take("delay_exponential", config.delay_exponential);
  keys.take("seed", config.seed);
  keys.take("fault_around_pages", config.fault_around_pages);
  keys.take("reader_cpus", config.reader_cpus);
  keys.take("successor", config.successor);
  if (keys.contains("inject")) config.inject = inject_config(nb::cast<nb::dict>(keys.pop("inject")));
  keys.take("track_removes", config.track_removes);
  if (keys.contains("prefetch")) config.prefetch = prefetch_config(nb::cast<nb::dict>(keys.pop("prefetch")));
  if (keys.contains("source")) config.source = source_config(nb::cast<nb::dict>(keys.pop("source")));
  keys.finish();
  return config;
}

AccessConfig access_config(nb::dict dict) {
  Keys keys(dict, "access");
  AccessConfig config;
  keys.take("order", config.order);
  keys.take("overlap", config.overlap);
  keys.take("read_share", config.read_share);
  keys.take("passes", config.passes);
  keys.take("accesses", config.accesses);
  keys.take("stride_pages", config.stride_pages);
  keys.take("zipf_exponent", config.zipf_exponent);
  keys.take("think_ns", config.think_ns);
  keys.take("rate_per_s", config.rate_per_s);
  keys.take("hold_ns", config.hold_ns);
  if (keys.contains("trace")) config.trace = page_numbers(keys.pop("trace"));
  keys.finish();
  return config;
}

DisturbConfig disturb_config(nb::dict dict) {
  Keys keys(dict, "disturb");
  DisturbConfig config;
  const auto part = [&keys](const char* name, auto read) {
    if (!keys.contains(name)) return;
    Keys own(nb::cast<nb::dict>(keys.pop(name)), name);
    read(own);
    own.finish();
  };
  part("balloon", [&](Keys& own) {
    own.take("rate_per_s", config.balloon.rate_per_s);
    own.take("method", config.balloon.method);
    own.take("track_removes", config.balloon.track_removes);
    own.take("stale_stage2", config.balloon.stale_stage2);
  });
  part("migrator", [&](Keys& own) {
    own.take("rate_per_s", config.migrator.rate_per_s);
    own.take("fragment_mib", config.migrator.fragment_mib);
  });
  part("mmap_writers", [&](Keys& own) {
    own.take("threads", config.mmap_writers.threads);
    own.take("rate_per_s", config.mmap_writers.rate_per_s);
    own.take("map_kib", config.mmap_writers.map_kib);
  });
  part("devices", [&](Keys& own) {
    own.take("threads", config.devices.threads);
    own.take("rate_per_s", config.devices.rate_per_s);
    own.take("second_mapping", config.devices.second_mapping);
  });
  keys.finish();
  return config;
}

void take_options(Keys& keys, const char* key, Options& into) {
  if (!keys.contains(key)) return;
  for (const auto [name, value] : nb::cast<nb::dict>(keys.pop(key)))
    into[nb::cast<std::string>(name)] = nb::cast<std::int64_t>(value);
}

VmmConfig vmm_config(nb::dict dict) {
  Keys keys(dict, "vmm");
  VmmConfig config;
  keys.take("vmm", config.vmm);
  keys.take("first_vcpu", config.first_vcpu);
  keys.take("vcpus", config.vcpus);
  keys.take("uffds", config.uffds);
  keys.take("strategy", config.strategy);
  keys.take("engine", config.engine);
  keys.take("verify", config.verify);
  keys.take("on_memory_error", config.on_memory_error);
  keys.take("snapshot", config.snapshot);
  keys.take("cold", config.cold);
  keys.take("watchdog_s", config.watchdog_s);
  keys.take("sample_every", config.sample_every);
  keys.take("record_capacity", config.record_capacity);
  keys.take("count_mmap_lock", config.count_mmap_lock);
  keys.take("vcpu_cpus", config.vcpu_cpus);
  std::uint64_t seed = 0;
  keys.take("seed", seed);  // the guest's seed is the run's; kept so that a spec can be handed over as it is
  take_options(keys, "options", config.options);
  take_options(keys, "engine_options", config.engine_options);
  if (keys.contains("access")) config.access = access_config(nb::cast<nb::dict>(keys.pop("access")));
  if (keys.contains("disturb")) config.disturb = disturb_config(nb::cast<nb::dict>(keys.pop("disturb")));
  keys.finish();
  return config;
}

// --- results --------------------------------------------------------------------------------------------------------

nb::dict to_dict(const Counters& counters) {
  nb::dict out;
  for (std::size_t i = 0; i < kCounterNames.size(); ++i) out[kCounterNames[i]] = counters[static_cast<Counter>(i)];
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

nb::list names(std::uint64_t features) {
  nb::list out;
  for (const std::string& name : feature_names(features)) out.append(name);
  return out;
}

nb::list describe_options(const std::vector<Option>& all) {
  nb::list options;
  for (const Option& option : all) {
    nb::dict one;
    one["name"] = option.name;
    one["default"] = option.initial;
    one["minimum"] = option.minimum;
    one["maximum"] = option.maximum;
    one["help"] = option.help;
    one["choices"] = option.choices;
    options.append(one);
  }
  return options;
}

nb::list describe_strategies() {
  nb::list out;
  for (const auto& [name, info] : strategies()) {
    nb::dict entry;
    entry["name"] = name;
    entry["summary"] = info.summary;
    entry["exit"] = exit_kind_name(info.exit);
    entry["userfaultfd"] = info.userfaultfd;
    entry["restore"] = restore_name(info.restore);
    entry["features"] = names(info.features);
    nb::list memory;
    for (const MemoryType type : info.memory) memory.append(memory_type_name(type));
    entry["memory_types"] = memory;
    entry["options"] = describe_options(info.options);
    out.append(entry);
  }
  return out;
}

nb::list describe_engines() {
  nb::list out;
  for (const auto& [name, info] : engines()) {
    nb::dict entry;
    entry["name"] = name;
    entry["summary"] = info.summary;
    entry["emulates_exits"] = info.emulates_exits;
    entry["options"] = describe_options(info.options);
    out.append(entry);
  }
  return out;
}

nb::dict describe_kvm() {
  const KvmCapability capability = probe_kvm();
  nb::dict out;
  out["usable"] = capability.usable;
  out["error"] = capability.error;
  out["most_vcpus"] = capability.most_vcpus;
  out["best_vcpus"] = capability.best_vcpus;
  out["capabilities"] = capability.names;
  out["exit_on_missing"] = capability.exit_on_missing;
  return out;
}

nb::dict describe_userfaultfd() {
  const Capability capability = probe_userfaultfd();
  nb::dict out;
  out["way"] = capability.available ? way_name(capability.way) : "";
  out["features"] = names(capability.features);
  out["kernel_faults"] = capability.available && capability.way != Way::user_mode_only;
  nb::dict errors;
  for (const Refusal& refusal : capability.refusals) errors[way_name(refusal.way)] = std::strerror(refusal.error);
  out["errors"] = errors;
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
  nb::dict layout;
  layout["names"] = names;
  layout["formats"] = formats;
  layout["offsets"] = offsets;
  layout["itemsize"] = sizeof(FaultRecord);
  return numpy.attr("dtype")(layout);
}

template <typename Names>
nb::tuple name_tuple(const Names& all) {
  nb::list out;
  for (const char* name : all) out.append(name);
  return nb::tuple(out);
}

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

void put_progress(nb::dict& entry, const Vcpu& vcpu, const TickLine& line) {
  nb::list at, accesses, pages, ends;
  for (const Milestones::Mark& mark : vcpu.milestones().marks()) {
    at.append(line.to_ns(mark.at));
    accesses.append(mark.accesses);
    pages.append(mark.pages);
  }
  for (const Ticks end : vcpu.milestones().pass_ends()) ends.append(line.to_ns(end));
  entry["mark_ns"] = at;
  entry["mark_accesses"] = accesses;
  entry["mark_pages"] = pages;
  entry["pass_end_ns"] = ends;
  entry["longest_fault_ns"] = std::llround(static_cast<double>(vcpu.longest_fault()) * 1e9 / Clock::get().ticks_per_s());
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
    entry["stray_waits"] = state.stray_waits.load();
    entry["start_ns"] = vmm.line().to_ns(vcpu.start());
    entry["end_ns"] = vmm.line().to_ns(vcpu.end());
    entry["cpus"] = vcpu.cpus_seen();
    entry["wrong_words"] = vcpu.wrong_words();
    entry["first_wrong"] = vcpu.first_wrong();
    entry["stuck"] = vmm.stuck(i);
    entry["failure"] = vcpu.failure();
    entry["usage"] = to_dict(vcpu.usage());
    const LockReads reads = vcpu.locks().reads();
    for (std::size_t cause = 0; cause < reads.size(); ++cause)
      entry[(std::string("mmap_lock_reads_") + kLockCauseNames[cause]).c_str()] =
          vcpu.locks().valid() ? nb::object(nb::int_(reads[cause])) : nb::none();
    put_progress(entry, vcpu, vmm.line());
    out.append(entry);
  }
  return out;
}

nb::list vmm_disturbers(const Vmm& vmm) {
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
    entry["seconds"] = static_cast<double>(thread.ended - thread.began) / Clock::get().ticks_per_s();
    entry["wrong_words"] = thread.work->wrong_words;
    entry["first_wrong"] = thread.work->first_wrong;
    out.append(entry);
  }
  return out;
}

nb::object vmm_device_userfaultfd(const Vmm& vmm) {
  const DeviceMapping* mapping = vmm.device_mapping();
  if (mapping == nullptr) return nb::none();
  nb::dict region;
  region["base_host_virt_addr"] = mapping->region.address();
  region["size"] = mapping->region.bytes();
  region["offset"] = 0;
  region["page_size"] = vmm.page_bytes();
  nb::list regions;
  regions.append(region);
  return nb::make_tuple(mapping->uffd.fd(), regions, mapping->record_fd.get());
}

nb::list vmm_userfaultfds(const Vmm& vmm) {
  nb::list out;
  for (std::size_t i = 0; i < vmm.userfaultfds().size(); ++i) {
    const Shard& shard = vmm.shards()[i];
    const std::uint64_t page_bytes = vmm.page_bytes();
    nb::dict region;
    region["base_host_virt_addr"] = shard.address;
    region["size"] = shard.pages * page_bytes;
    region["offset"] = shard.first_page * page_bytes;
    region["page_size"] = page_bytes;
    nb::list regions;
    regions.append(region);
    out.append(nb::make_tuple(vmm.userfaultfds()[i]->fd(), regions));
  }
  return out;
}

std::vector<RegionView> region_views(nb::iterable regions) {
  std::vector<RegionView> views;
  for (const nb::handle region : regions) {
    const auto value = [&region](const char* key) { return nb::cast<std::uint64_t>(region[key]); };
    views.push_back({value("base_host_virt_addr"), value("size"), value("offset"), value("page_size")});
  }
  return views;
}

nb::object vcpu_records(nb::object self, std::uint32_t index) {
  const Vmm& vmm = nb::cast<const Vmm&>(self);
  if (index >= vmm.vcpus().size()) throw nb::index_error("the VMM process has no such vCPU");
  const Vcpu& vcpu = *vmm.vcpus()[index];
  nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<1>> bytes(vcpu.records(), {vcpu.recorded() * sizeof(FaultRecord)}, self);
  return nb::cast(bytes).attr("view")(fault_dtype());
}

ExitKind exit_kind(const std::string& name) {
  for (const ExitKind kind : {ExitKind::none, ExitKind::signal, ExitKind::probe, ExitKind::populate})
    if (name == exit_kind_name(kind)) return kind;
  throw ConfigError("exit kind '" + name + "' is unknown; it is one of none, signal, probe, populate");
}

}  // namespace
}  // namespace uffd

NB_MODULE(_native, m) {
  using namespace uffd;
  m.attr("FAULT_DTYPE") = fault_dtype();
  m.attr("KINDS") = name_tuple(kKindNames);
  m.attr("OUTCOMES") = name_tuple(kOutcomeNames);
  m.attr("EXITS") = name_tuple(kExitNames);
  m.def("strategies", &describe_strategies);
  m.def("engines", &describe_engines);
  m.def("probe_kvm", &describe_kvm);
  m.def("exit_kind",
        [](const std::string& strategy, const std::map<std::string, std::int64_t>& options) {
          const StrategyInfo& info = strategy_info(strategy);
          return exit_kind_name(info.make(complete_options(info, options))->exit(info.exit));
        },
        "strategy"_a, "options"_a);
  m.def("probe_userfaultfd", &describe_userfaultfd);
  m.def("clock", [] {
    nb::dict out;
    out["source"] = Clock::get().invariant() ? "tsc" : "clock_gettime";
    out["ticks_per_s"] = Clock::get().ticks_per_s();
    return out;
  });
  m.def("calibrate_exit",
        [](const std::string& kind, const std::string& memory, std::uint64_t rounds) {
          return calibrate_exit(exit_kind(kind), memory_type(memory), rounds);
        },
        "kind"_a, "memory_type"_a, "rounds"_a, nb::call_guard<nb::gil_scoped_release>());

  static nb::object kernel_error = nb::exception<KernelError>(m, "KernelError", PyExc_OSError);
  nb::register_exception_translator(
      [](const std::exception_ptr& error, void* type) {
        try {
          std::rethrow_exception(error);
        } catch (const KernelError& failure) {
          // OSError(errno, message), so that errno is an attribute.
          const nb::object instance = nb::borrow(static_cast<PyObject*>(type))(failure.error(), failure.what());
          PyErr_SetObject(static_cast<PyObject*>(type), instance.ptr());
        }
      },
      kernel_error.ptr());

  nb::class_<Guest>(m, "Guest")
      .def("__init__", [](Guest* self, nb::dict config) { new (self) Guest(guest_config(config)); }, "config"_a)
      .def_static("attach", &Guest::attach, "region_fd"_a, "shared_fd"_a)
      .def_prop_ro("region_fd", &Guest::region_fd)
      .def_prop_ro("shared_fd", &Guest::shared_fd)
      .def("fill",
           [](const Guest& guest, nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu> kinds) {
             Filled filled;
             {
               nb::gil_scoped_release release;
               filled = fill(guest, {kinds.data(), kinds.size()});
             }
             nb::dict out;
             out["filled"] = filled.filled;
             out["unprepared"] = filled.unprepared;
             out["seconds"] = filled.seconds;
             return out;
           },
           "kinds"_a)
      .def("wait_armed",
           [](const Guest& guest, double timeout_s) { return guest.wait_armed(static_cast<std::uint64_t>(timeout_s * 1e9)); },
           "timeout_s"_a, nb::call_guard<nb::gil_scoped_release>())
      .def("release", &Guest::release, "at_ns"_a, nb::call_guard<nb::gil_scoped_release>())
      .def("stop", &Guest::stop, "reason"_a)
      .def("stop_reason", &Guest::stop_reason);

  nb::class_<PageServer>(m, "PageServer")
      .def("__init__",
           [](PageServer* self, const Guest& guest, nb::dict config) { new (self) PageServer(guest, server_config(config)); },
           "guest"_a, "config"_a, nb::keep_alive<1, 2>())
      .def("add_userfaultfd",
           [](PageServer& server, int fd, nb::iterable regions, int vmm, int record_fd, int faults_fd) {
             server.add(fd, region_views(regions), vmm, record_fd, faults_fd);
           },
           "fd"_a, "regions"_a, nb::kw_only(), "vmm"_a, "record_fd"_a, "faults_fd"_a)
      .def("serve", &PageServer::serve, nb::call_guard<nb::gil_scoped_release>())
      .def("stop", &PageServer::stop)
      .def("look", [](PageServer& server) { return to_dict(server.look()); })  // the GIL makes it one caller at a time
      .def("counters", [](const PageServer& server) { return to_dict(server.counters()); })
      .def("prefetch_marks", [](const PageServer& server) {
        nb::dict out;
        nb::list at, pages;
        for (const PrefetchMark& mark : server.prefetch_marks()) {
          at.append(mark.at);
          pages.append(mark.pages);
        }
        out["prefetch_mark_ns"] = at;
        out["prefetch_mark_pages"] = pages;
        return out;
      })
      .def("source_counts", [](const PageServer& server) { return to_dict(server.source()); })
      .def("threads", [](const PageServer& server) {
        nb::list out;
        for (std::size_t i = 0; i < server.threads().size(); ++i) {
          const ReaderInfo& info = server.threads()[i];
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
      });

  m.def("write_snapshot", &write_snapshot, "path"_a, "region_bytes"_a, "page_bytes"_a, "seed"_a,
        nb::call_guard<nb::gil_scoped_release>());
  m.def("check_snapshot", &check_snapshot, "path"_a, "region_bytes"_a, "page_bytes"_a, "seed"_a,
        nb::call_guard<nb::gil_scoped_release>());
  nb::class_<SourceServer>(m, "SourceServer")
      .def("__init__",
           [](SourceServer* self, nb::dict config) {
             const SourceServerConfig asked = source_server_config(config);
             nb::gil_scoped_release release;
             new (self) SourceServer(asked);
           },
           "config"_a)
      .def_prop_ro("port", &SourceServer::port)
      .def("served", [](const SourceServer& server) { return to_dict(server.served()); })
      .def("stop", &SourceServer::stop, nb::call_guard<nb::gil_scoped_release>());

  nb::class_<Vmm>(m, "Vmm")
      .def("__init__",
           [](Vmm* self, const Guest& guest, nb::dict config) { new (self) Vmm(guest, vmm_config(config)); }, "guest"_a,
           "config"_a, nb::keep_alive<1, 2>())
      .def("userfaultfds", &vmm_userfaultfds)
      .def_prop_ro("record_fd", &Vmm::record_fd)
      .def_prop_ro("faults_fd", &Vmm::faults_fd)
      .def("prepare",
           [](Vmm& vmm) {
             Prepared prepared;
             {
               nb::gil_scoped_release release;
               prepared = vmm.prepare();
             }
             nb::dict out;
             for (std::size_t i = 0; i < kKindNames.size(); ++i) out[kKindNames[i]] = prepared.pages[i];
             out["unprepared"] = prepared.unprepared;
             out["seconds"] = prepared.seconds;
             return out;
           })
      .def("reclaim", &Vmm::reclaim, nb::call_guard<nb::gil_scoped_release>())
      .def("let_go", &Vmm::let_go)
      .def("run", &Vmm::run, nb::call_guard<nb::gil_scoped_release>())
      .def("finish", &Vmm::finish, nb::call_guard<nb::gil_scoped_release>())
      .def("verify",
           [](const Vmm& vmm) {
             Verified verified;
             {
               nb::gil_scoped_release release;
               verified = vmm.verify();
             }
             nb::dict out;
             out["pages"] = verified.pages;
             out["poisoned"] = verified.poisoned;
             out["gone"] = verified.gone;
             out["wrong_words"] = verified.wrong_words;
             out["first_wrong"] = verified.first_wrong;
             out["seconds"] = verified.seconds;
             return out;
           })
      .def("counters", [](const Vmm& vmm) { return to_dict(vmm.counters()); })
      .def("vcpus", &vmm_vcpus)
      .def("disturbers", &vmm_disturbers)
      .def("device_userfaultfd", &vmm_device_userfaultfd)
      .def("page_states",
           [](const Vmm& vmm) {
             const PageStates states = vmm.page_states();
             nb::dict out;
             for (std::size_t i = 0; i < states.size(); ++i) out[kPageStateNames[i]] = states[i];
             return out;
           })
      .def("records", &vcpu_records, "vcpu"_a);
}
