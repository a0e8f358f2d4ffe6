#include "binding/describe.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>

#include "kernel/clock.hpp"
#include "kernel/userfaultfd.hpp"
#include "kvm/own_access.hpp"
#include "kvm/probe.hpp"
#include "resolve/emulation.hpp"
#include "resolve/strategy.hpp"
#include "vcpu/engine.hpp"

namespace uffd {

namespace nb = nanobind;

namespace {

#if defined(__aarch64__)
constexpr const char* kStampCounter = "cntvct";
#else
constexpr const char* kStampCounter = "tsc";
#endif

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
    one["role"] = option_role_name(option.role);
    options.append(one);
  }
  return options;
}

}  // namespace

nb::list describe_strategies() {
  nb::list out;
  for (const auto& [name, info] : strategies()) {
    nb::dict entry;
    entry["name"] = name;
    entry["summary"] = info.summary;
    entry["exit"] = exit_kind_name(info.exit);
    entry["userfaultfd"] = info.userfaultfd;
    entry["restore"] = restore_name(info.restore);
    entry["kernel_faults"] = info.kernel_faults;
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

nb::list describe_own_accesses() {
  nb::list out;
  for (const OwnAccess& one : try_own_accesses()) {
    nb::dict row;
    row["access"] = one.access;
    row["refuses"] = one.refuses;
    row["events"] = one.events;
    row["seen"] = one.seen;
    out.append(row);
  }
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

nb::dict describe_clock() {
  nb::dict out;
  out["source"] = Clock::get().invariant() ? kStampCounter : "clock_gettime";
  out["ticks_per_s"] = Clock::get().ticks_per_s();
  return out;
}

nb::list describe_emulated() {
  nb::list out;
  for (const EmulatedOperation& operation : kEmulatedOperation) {
    nb::dict entry;
    entry["name"] = operation.name;
    entry["counter"] = kCounterNames[static_cast<std::size_t>(operation.counter)];
    entry["stands_for"] = operation.stands_for;
    entry["real_cost"] = operation.real_cost;
    out.append(entry);
  }
  return out;
}

}  // namespace uffd
