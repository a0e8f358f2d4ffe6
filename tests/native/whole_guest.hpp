// A whole guest in one process, on the real kernel: page server threads, VMM processes' sides, vCPU threads.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "check.hpp"
#include "kernel/userfaultfd.hpp"
#include "resolve/fill.hpp"
#include "server/page_server.hpp"
#include "vmm/vmm.hpp"

/// The strategies under which something resolves a page at its first fault.
constexpr const char* kResolving[] = {"uffd_wait", "no_uffd_wait", "no_slow_gup", "populate"};

constexpr std::uint64_t kPages = 1024;

/// How much slower than a real one this machine is: an emulated one, as NATIVE_TEST_SLOWNESS has it, makes as many fewer accesses
/// beside as many fewer disturbances, in the same time.
inline std::uint64_t slowness() {
  const char* slowness = std::getenv("NATIVE_TEST_SLOWNESS");
  return slowness != nullptr ? static_cast<std::uint64_t>(std::atoi(slowness)) : 1;
}

struct GuestPlan {
  uffd::GuestConfig guest{.region_bytes = kPages * 4096, .vcpus = 2, .vcpus_per_vmm = 2, .seed = 7};
  uffd::Kind kind = uffd::Kind::minor;
  std::vector<uffd::Kind> kinds = {};  ///< repeated over the region; empty: all pages are of `kind`
  struct Word {
    std::uint64_t page, index;
  };
  std::vector<Word> spoiled = {};           ///< after the region was filled
  std::vector<std::uint64_t> punched = {};  ///< pages of the memfd dropped after it was filled, as by a balloon
  uffd::PageServerConfig server;
  uffd::VmmConfig vmm;
  bool no_records = false;  ///< else one a page where `vmm` does not say
};

struct GuestResult {
  std::uint64_t pages_resolved = 0, guest_pages_resolved = 0, wrong_words = 0, verified = 0, recorded = 0, unprepared = 0,
                refused = 0, gone = 0;
  decltype(uffd::Prepared::pages) prepared{};  ///< of the last VMM
  uffd::Counters vcpus, server;
  std::vector<uffd::ThreadInfo> threads;
  uffd::SourceCounts source;
  std::vector<uffd::PrefetchMark> prefetched;
  std::string stop_reason;
  std::vector<std::unique_ptr<uffd::Vmm>> vmms;  ///< after the guest they belong to has gone only their records may be read
  std::unique_ptr<uffd::Guest> guest;
  std::uint64_t operator[](uffd::Counter counter) const { return vcpus[counter]; }
  ~GuestResult() { vmms.clear(); }
};

/// Linux 6.6 brought UFFDIO_POISON.
inline bool kernel_poisons() { return (uffd::probe_userfaultfd().features & UFFD_FEATURE_POISON) != 0; }
inline void needs_poison() {
  if (!kernel_poisons()) throw check::Skipped("this kernel cannot poison pages (UFFDIO_POISON is Linux 6.6)");
}

/// Fills the guest's memory as planned; what could not be prepared.
inline std::uint64_t fill_as_planned(const uffd::Guest& guest, const GuestPlan& plan) {
  std::vector<std::uint8_t> kinds(guest.pages(), static_cast<std::uint8_t>(plan.kind));
  for (std::uint64_t page = 0; page < kinds.size() && !plan.kinds.empty(); ++page)
    kinds[page] = static_cast<std::uint8_t>(plan.kinds[page % plan.kinds.size()]);
  const std::uint64_t unprepared = uffd::fill(guest, kinds).unprepared;
  for (const std::uint64_t page : plan.punched)
    ::fallocate(guest.region_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(page * plan.guest.page_bytes),
                static_cast<off_t>(plan.guest.page_bytes));
  if (!plan.spoiled.empty()) {
    const uffd::Mapping region = uffd::Mapping::shared(guest.region_fd(), plan.guest.region_bytes);
    for (const auto& [page, index] : plan.spoiled)
      reinterpret_cast<std::uint64_t*>(region.data() + page * plan.guest.page_bytes)[index] ^= 1;
  }
  return unprepared;
}

/// VMM process `number` of a plan, its userfaultfds handed to the page server.
inline std::unique_ptr<uffd::Vmm> open_vmm(const uffd::Guest& guest, uffd::PageServer& server, const GuestPlan& plan,
                                           std::uint32_t number) {
  uffd::VmmConfig config = plan.vmm;
  config.vmm = number;
  config.vcpus = plan.guest.vcpus_per_vmm;
  config.first_vcpu = number * config.vcpus;
  if (config.record_capacity == 0 && !plan.no_records) config.record_capacity = guest.pages();
  for (const uffd::Option& option : uffd::strategy_info(config.strategy).options)
    if (option.role == uffd::OptionRole::fault_around || option.role == uffd::OptionRole::populate)
      config.options[option.name] = plan.guest.request_pages;
  auto vmm = std::make_unique<uffd::Vmm>(guest, config);
  for (std::size_t k = 0; k < vmm->userfaultfds().size(); ++k) {
    const uffd::Shard& shard = vmm->shards()[k];
    const std::uint64_t page = plan.guest.page_bytes;
    server.add(vmm->userfaultfds()[k]->fd(), {{shard.address, shard.pages * page, shard.first_page * page, page}},
               static_cast<int>(number), vmm->record_fd(), vmm->faults_fd());
  }
  if (const uffd::DeviceMapping* devices = vmm->device_mapping())
    server.add(devices->uffd.fd(), {{devices->region.address(), devices->region.bytes(), 0, plan.guest.page_bytes}},
               static_cast<int>(number), devices->record_fd.get(), -1);
  return vmm;
}

/// Adds what a VMM process measured to the result, its memory read in full.
inline void add_finished(GuestResult& result, uffd::Vmm& vmm) {
  vmm.finish();
  const uffd::Verified verified = vmm.verify();
  result.verified += verified.pages;
  result.wrong_words += verified.wrong_words;
  result.refused += verified.poisoned;
  result.gone += verified.gone;
  for (const auto& thread : vmm.disturbers()) result.wrong_words += thread.work->wrong_words;
  result.vcpus += vmm.counters();
  for (const auto& vcpu : vmm.vcpus()) {
    result.wrong_words += vcpu->wrong_words();
    result.recorded += vcpu->recorded();
    result.pages_resolved += vcpu->state().resolved_by_vcpu + vcpu->state().resolved_by_reader;
    result.guest_pages_resolved += vcpu->state().first_by_vcpu + vcpu->state().first_by_reader;
  }
}

inline std::unique_ptr<GuestResult> run_guest(GuestPlan plan, bool serve = true) {
  if (std::count(plan.kinds.begin(), plan.kinds.end(), uffd::Kind::poisoned) != 0) needs_poison();
  auto result = std::make_unique<GuestResult>();
  const std::uint32_t vmms = plan.guest.vcpus / plan.guest.vcpus_per_vmm;
  plan.server.readers =
      std::max(plan.server.readers, vmms * (plan.vmm.uffds + (plan.vmm.disturb.devices.second_mapping ? 1 : 0)));
  plan.guest.rings = std::min(plan.guest.vcpus, plan.server.readers);
  plan.guest.drops = plan.vmm.disturb.balloon.rate_per_s > 0 || !plan.punched.empty();
  plan.server.track_removes = plan.vmm.disturb.balloon.track_removes;
  plan.server.fault_around_pages = plan.guest.request_pages;
  result->guest = std::make_unique<uffd::Guest>(plan.guest);
  uffd::Guest& guest = *result->guest;
  result->unprepared = fill_as_planned(guest, plan);
  uffd::PageServer server(guest, plan.server);
  for (std::uint32_t i = 0; i < vmms; ++i) {
    result->vmms.push_back(open_vmm(guest, server, plan, i));
    const uffd::Prepared prepared = result->vmms.back()->prepare();
    result->unprepared += prepared.unprepared;
    result->prepared = prepared.pages;
  }
  std::thread serving([&] {
    if (serve) server.serve();
  });
  std::vector<std::thread> running;
  for (auto& vmm : result->vmms) running.emplace_back([&vmm] { vmm->run(); });
  for (std::thread& thread : running) thread.join();
  server.stop();
  serving.join();
  for (auto& vmm : result->vmms) add_finished(*result, *vmm);
  result->server = server.counters();
  result->threads = server.threads();
  if (server.source().remote() != nullptr) result->source = server.source().remote()->counts();
  result->prefetched = server.prefetch_marks();
  result->stop_reason = guest.stop_reason();
  return result;
}
