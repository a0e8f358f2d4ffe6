#include "binding/configs.hpp"

#include <nanobind/stl/shared_ptr.h>

#include "binding/keys.hpp"

namespace uffd {

namespace {

SourceConfig source_config(nb::dict dict) {
  Keys keys(dict, "source");
  SourceConfig config;
  keys.take("name", config.name);
  keys.take("file", config.file);
  keys.take("cold", config.cold);
  if (keys.contains("mapped")) config.mapped = nb::cast<std::shared_ptr<MappedSnapshot>>(keys.pop("mapped"));
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

template <typename Number>
std::vector<Number> numbers(const nb::object& list) {
  std::vector<Number> out;
  for (const nb::handle one : list) out.push_back(nb::cast<Number>(nb::int_(nb::borrow(one))));
  return out;
}

template <typename Number>
void take_numbers(Keys& keys, const char* key, std::vector<Number>& into) {
  if (keys.contains(key)) into = numbers<Number>(keys.pop(key));
}

PrefetchConfig prefetch_config(nb::dict dict) {
  Keys keys(dict, "prefetch");
  PrefetchConfig config;
  keys.take("name", config.name);
  keys.take("batch_pages", config.batch_pages);
  keys.take("mib_per_s", config.mib_per_s);
  keys.take("cpus", config.cpus);
  take_numbers(keys, "pages", config.pages);
  keys.finish();
  return config;
}

}  // namespace

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
  keys.take("arrivals", config.arrivals);
  keys.take("hold_ns", config.hold_ns);
  take_numbers(keys, "trace", config.trace);
  take_numbers(keys, "trace_due_ns", config.trace_due_ns);
  take_numbers(keys, "trace_write", config.trace_write);
  take_numbers(keys, "trace_vcpu", config.trace_vcpu);
  keys.finish();
  return config;
}

namespace {

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

}  // namespace

GuestConfig guest_config(nb::dict dict) {
  Keys keys(dict, "guest");
  GuestConfig config;
  std::string memory = "shmem";
  keys.take("memory_type", memory);
  config.memory = memory_type(memory);
  keys.take("region_bytes", config.region_bytes);
  keys.take("page_bytes", config.page_bytes);
  keys.take("transparent_huge_pages", config.transparent_huge_pages);
  if (keys.contains("numa")) config.numa = numa_policy(nb::cast<std::string>(keys.pop("numa")));
  keys.take("vcpus", config.vcpus);
  keys.take("vcpus_per_vmm", config.vcpus_per_vmm);
  keys.take("seed", config.seed);
  keys.take("contents_seed", config.contents_seed);
  keys.take("contents_of_file", config.contents_of_file);
  keys.take("request_pages", config.request_pages);
  keys.take("poisoned_when_resolved", config.poisoned_when_resolved);
  keys.take("rings", config.rings);
  keys.take("server_threads", config.server_threads);
  keys.take("gated", config.gated);
  keys.take("drops", config.drops);
  keys.take("regions", config.regions);
  keys.take("external", config.external);
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
  keys.take("wake_first", config.wake_first);
  keys.take("log_faults", config.log_faults);
  if (keys.contains("inject")) config.inject = inject_config(nb::cast<nb::dict>(keys.pop("inject")));
  keys.take("track_removes", config.track_removes);
  if (keys.contains("prefetch")) config.prefetch = prefetch_config(nb::cast<nb::dict>(keys.pop("prefetch")));
  if (keys.contains("source")) config.source = source_config(nb::cast<nb::dict>(keys.pop("source")));
  keys.finish();
  return config;
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
  keys.take("measure_s", config.rounds.measure_s);
  keys.take("rounds_limit", config.rounds.limit);
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

std::vector<RegionView> region_views(nb::iterable regions) {
  std::vector<RegionView> views;
  for (const nb::handle region : regions) {
    const auto value = [&region](const char* key) { return nb::cast<std::uint64_t>(region[key]); };
    views.push_back({value("base_host_virt_addr"), value("size"), value("offset"), value("page_size")});
  }
  return views;
}

}  // namespace uffd
