#include "vmm/vmm.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"
#include "resolve/reclaim.hpp"
#include "source/snapshot.hpp"
#include "vcpu/thread_engine.hpp"

namespace uffd {

namespace {

using Seconds = std::chrono::duration<double>;

constexpr std::uint64_t kHugePageBytes = 2 << 20;
constexpr std::uint64_t kWatchIntervalNs = 500'000'000;  // no polling above 2 Hz while a run is measured
constexpr auto kKickInterval = std::chrono::milliseconds(5);

Verify verify_level(const std::string& name) {
  if (name == "none") return Verify::none;
  if (name == "word") return Verify::word;
  if (name == "page") return Verify::page;
  throw ConfigError("verify '" + name + "' is unknown; it is one of none, word, page");
}

bool crash_of(const std::string& on_memory_error) {
  if (on_memory_error == "inject") return false;
  if (on_memory_error == "crash") return true;
  throw ConfigError("on_memory_error '" + on_memory_error + "' is unknown; it is one of inject, crash");
}

/// `own`: those of the strategy.
std::uint64_t features_for(MemoryType memory, std::uint64_t own) {
  std::uint64_t features = own;
  if ((own & UFFD_FEATURE_SIGBUS) == 0) features |= UFFD_FEATURE_THREAD_ID;  // a reader tells the vCPUs apart by it
  if (memory == MemoryType::shmem) features |= UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;
  if (memory == MemoryType::hugetlb) features |= UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MINOR_HUGETLBFS;
  return features;
}

Mapping map_memory(const Guest& guest, const std::string& snapshot) {
  const GuestConfig& config = guest.config();
  switch (config.memory) {
    case MemoryType::anon: return Mapping::anonymous(config.region_bytes, kHugePageBytes);
    case MemoryType::file: return Mapping::private_of(open_snapshot(snapshot, config.region_bytes).get(), config.region_bytes);
    case MemoryType::shmem:
    case MemoryType::hugetlb: break;
  }
  return Mapping::shared(guest.region_fd(), config.region_bytes);
}

Mapping map_region(const Guest& guest, const std::string& snapshot) {
  const GuestConfig& config = guest.config();
  Mapping region = map_memory(guest, snapshot);
  if (config.memory != MemoryType::hugetlb) {
    if (config.transparent_huge_pages)
      region.advise(MADV_HUGEPAGE, "madvise MADV_HUGEPAGE");
    else
      region.advise(MADV_NOHUGEPAGE, "madvise MADV_NOHUGEPAGE");
  }
  return region;
}

}  // namespace

Vmm::Vmm(const Guest& guest, VmmConfig config)
    : guest_(guest), config_(std::move(config)), info_(strategy_info(config_.strategy)) {
  const GuestConfig& memory = guest_.config();
  const EngineInfo& engine = engine_info(config_.engine);
  if (config_.vcpus == 0 || config_.first_vcpu + config_.vcpus > memory.vcpus)
    throw ConfigError("the VMM process's vCPUs are not vCPUs of the guest");
  if (config_.uffds == 0 || config_.uffds > guest_.pages())
    throw ConfigError("uffds_per_vmm must be between 1 and the region's pages");
  if (config_.sample_every == 0) throw ConfigError("sample_every must be at least 1");
  if (std::find(info_.memory.begin(), info_.memory.end(), memory.memory) == info_.memory.end())
    throw ConfigError("strategy " + info_.name + " does not work on " + memory_type_name(memory.memory) + " memory");
  if (memory.memory == MemoryType::anon && config_.vcpus != memory.vcpus)
    throw ConfigError("anonymous memory has one mapping: vcpus_per_vmm must be vcpus");
  const Options options = complete_options(info_, config_.options);
  strategy_ = info_.make(options);
  const auto around = options.find("fault_around_pages");
  const auto page_record = options.find("page_record");
  const auto fault_around = around == options.end() ? 1u : static_cast<std::uint32_t>(around->second);
  if (fault_around > memory.fault_around_pages) throw ConfigError("fault_around_pages is more than the guest was made for");

  region_ = map_region(guest_, config_.snapshot);
  const std::uint64_t pages = guest_.pages();
  for (std::uint32_t i = 0; i < config_.uffds; ++i) {
    const std::uint64_t first = pages * i / config_.uffds;
    const std::uint64_t count = pages * (i + 1) / config_.uffds - first;
    Shard shard{nullptr, region_.address() + first * memory.page_bytes, first, count};
    if (info_.userfaultfd) {
      std::uint64_t features = info_.features;
      if (config_.disturb.balloon.track_removes) features |= UFFD_FEATURE_EVENT_REMOVE;
      uffds_.push_back(std::make_unique<Userfaultfd>(features_for(memory.memory, features)));
      std::uint64_t mode = UFFDIO_REGISTER_MODE_MISSING;
      if (memory.memory != MemoryType::anon) mode |= UFFDIO_REGISTER_MODE_MINOR;
      uffds_.back()->register_range(shard.address, count * memory.page_bytes, mode);
      shard.uffd = uffds_.back().get();
    }
    shards_.push_back(shard);
  }

  record_fd_ = make_memfd("uffd-loadgen-record", pages, false);
  record_ = Mapping::populated(record_fd_.get(), pages);
  const std::uint64_t fault_bytes = config_.vcpus * slots_per_vcpu() * sizeof(FaultRecord);
  faults_fd_ = make_memfd("uffd-loadgen-faults", fault_bytes, false);
  faults_ = Mapping::populated(faults_fd_.get(), fault_bytes);
  resolver_ = std::make_unique<Resolver>(shards_, PageRecord(reinterpret_cast<std::atomic<std::uint8_t>*>(record_.data())),
                                         memory, fault_around);
  shared_ = std::make_unique<VmmShared>(VmmShared{
      .guest = guest_,
      .strategy = *strategy_,
      .exit = strategy_->exit(info_.exit),
      .userfaultfd = info_.userfaultfd,
      .populate_first = info_.restore == Restore::eager ? &populate_first_ : nullptr,
      .eexist_only = page_record != options.end() && page_record->second == kEexistOnly,
      .crash_on_memory_error = crash_of(config_.on_memory_error),
      .count_mmap_lock = config_.count_mmap_lock,
      .track_removes = info_.userfaultfd && config_.disturb.balloon.track_removes,
      .memory = memory.memory,
      .resolver = *resolver_,
      .region = region_.data(),
      .page_bytes = memory.page_bytes,
      .verify = verify_level(config_.verify),
      .sample_every = config_.sample_every,
      .record_capacity = config_.record_capacity,
  });
  for (std::uint32_t i = 0; i < config_.vcpus; ++i)
    vcpus_.push_back(std::make_unique<Vcpu>(*shared_, config_.first_vcpu + i, records_of(i), config_.access,
                                            i < config_.vcpu_cpus.size() ? config_.vcpu_cpus[i] : CpuList{}));
  if (info_.userfaultfd && config_.disturb.devices.threads != 0 && config_.disturb.devices.second_mapping)
    device_mapping_ = std::make_unique<DeviceMapping>(guest_, features_for(memory.memory, 0));
  const GuestView mine{region_.data(), resolver_->record()};
  const GuestView theirs =
      device_mapping_ == nullptr ? mine : GuestView{device_mapping_->region.data(), device_mapping_->pages()};
  disturbances_ = std::make_unique<Disturbances>(config_.disturb, Scene{guest_, config_.vmm, mine, theirs});
  guest_.header().sample_every.store(config_.sample_every, std::memory_order_relaxed);
  guest_.header().exits.store(info_.exit != ExitKind::none, std::memory_order_release);
  ThreadEngine::install_handlers();
  engine_ = engine.make({guest_, *shared_, region_, record_, faults_, config_.first_vcpu, config_.vcpus,
                         complete_options("engine " + engine.name, engine.options, config_.engine_options)});
}

Vmm::~Vmm() { end_sleepers(); }

Prepared Vmm::prepare() const {
  return uffd::prepare({guest_, region_, *resolver_, info_.userfaultfd, config_.cold, config_.vmm == 0});
}

std::uint64_t Vmm::reclaim() const {
  const std::uint64_t own = uffd::reclaim(guest_, region_, resolver_->record());
  return device_mapping_ == nullptr ? own : own + uffd::reclaim(guest_, device_mapping_->region, device_mapping_->pages());
}

void Vmm::run() {
  line_.begin();
  std::vector<std::thread> threads;
  std::vector<std::thread::native_handle_type> handles;
  threads.reserve(vcpus_.size());
  try {
    disturbances_->start();
    for (const auto& vcpu : vcpus_) {
      threads.emplace_back([this, &vcpu = *vcpu] { vcpu.run(*engine_); });
      handles.push_back(threads.back().native_handle());
    }
  } catch (const std::system_error& error) {
    guest_.stop(std::string("a thread could not be started: ") + error.what());
  }
  watch(std::move(handles));
  stop_disturbances();
  for (std::thread& thread : threads) thread.join();
  line_.end();
}

// Runs beside the vCPUs until all of them have ended. Asleep but for a look twice a second, and for a stop, which wakes it.
void Vmm::watch(std::vector<std::thread::native_handle_type> threads) {
  struct Seen {
    std::uint64_t accesses = ~0ull;
    std::uint64_t page = ~0ull;
    Stage stage = Stage::idle;
    std::chrono::steady_clock::time_point since;
  };
  std::vector<Seen> seen(threads.size());
  stuck_.assign(vcpus_.size(), "");
  const auto finished = [&](std::size_t i) { return vcpus_[i]->state().finished.load(std::memory_order_acquire) != 0; };
  const auto all_finished = [&] {
    for (std::size_t i = 0; i < threads.size(); ++i)
      if (!finished(i)) return false;
    return true;
  };
  auto stopped = std::chrono::steady_clock::time_point::max();
  while (!all_finished()) {
    const auto now = std::chrono::steady_clock::now();
    if (!guest_.stopping()) {
      for (std::size_t i = 0; i < threads.size() && config_.watchdog_s > 0; ++i) {
        const VcpuState& state = vcpus_[i]->state();
        const Seen look{state.accesses.load(), state.page.load(), state.stage.load(), now};
        if (finished(i) || look.stage == Stage::thinking || look.accesses != seen[i].accesses || look.page != seen[i].page ||
            look.stage != seen[i].stage) {
          seen[i] = look;
        } else if (Seconds(now - seen[i].since).count() >= config_.watchdog_s) {
          char text[256];
          std::snprintf(text, sizeof text, "vCPU %u made no progress for %.1f s: page %llu is %s, stage: %s", vcpus_[i]->index(),
                        Seconds(now - seen[i].since).count(), static_cast<unsigned long long>(look.page),
                        page_state_name(resolver_->record().state(look.page)), stage_name(look.stage));
          stuck_[i] = text;
          guest_.stop(std::string("stuck: ") + text);
        }
      }
      // A vCPU that ends bumps `ended`, and so does a stop; what is read before the second look cannot be missed.
      FutexWord& ended = guest_.header().ended;
      const std::uint32_t before = ended.load(std::memory_order_acquire);
      if (!all_finished() && !guest_.stopping()) futex_wait(ended, before, kWatchIntervalNs);
      continue;
    }
    stopped = std::min(stopped, now);
    for (std::size_t i = 0; i < threads.size(); ++i)
      if (!finished(i)) engine_->kick(static_cast<std::uint32_t>(i), threads[i]);
    // A thread asleep in a fault taken inside the kernel takes no signal but SIGKILL; without registration it need not sleep.
    if (now - stopped > std::chrono::seconds(1)) end_sleepers();
    std::this_thread::sleep_for(kKickInterval);
  }
}

void Vmm::let_go() noexcept {
  for (const auto& uffd : uffds_) uffd->close();
}

// Those asleep in a fault or in a drop are served by a reader, as ever. When the run is being stopped there may be none.
void Vmm::stop_disturbances() {
  const auto began = std::chrono::steady_clock::now();
  const Seconds patience(config_.watchdog_s > 0 ? config_.watchdog_s : 10.0);
  disturbances_->stop([&] {
    if (!guest_.stopping() && std::chrono::steady_clock::now() - began > patience)
      guest_.stop(
          "stuck: " + disturbances_->still_running() +
          " did not end: asleep in a fault, in dropping a page whose remove event nobody reads, or in the kernel's own work");
    if (!guest_.stopping()) return;
    end_sleepers();
    read_events();
  });
}

// A dropper sleeps until its remove event has been read, registered or not.
void Vmm::read_events() const noexcept {
  std::array<uffd_msg, 16> messages;
  for (const auto& uffd : uffds_)
    while (::read(uffd->fd(), messages.data(), sizeof messages) > 0) {
    }
}

void Vmm::end_sleepers() const noexcept {
  if (device_mapping_ != nullptr) device_mapping_->end_sleepers();
  for (const Shard& shard : shards_)
    if (shard.uffd != nullptr) shard.uffd->unregister_range(shard.address, shard.pages * guest_.config().page_bytes);
}

void Vmm::finish() {
  if (finished_) return;
  finished_ = true;
  end_sleepers();
  credit_unclaimed();
  for (const auto& vcpu : vcpus_) {
    FaultRecord* records = vcpu->records();
    for (std::uint64_t i = 0; i < vcpu->recorded(); ++i) {
      FaultRecord& record = records[i];
      record.kind = static_cast<Kind>(guest_.kinds()[record.page.load()]);
      // A reader that came after the vCPU had gone on has stamped an event that nobody waited for any more.
      const bool late = record.outcome == FaultOutcome::lost_race && record.delivered.load() > record.resumed;
      for (auto stage : {&FaultRecord::delivered, &FaultRecord::fetched, &FaultRecord::installed})
        (record.*stage).store(late ? 0 : line_.to_ns((record.*stage).load()));
      // A guest whose counter is not the host's has left no stamps of its own.
      if (record.raised == 0) record.raised = record.delivered.load();
      if (record.resumed == 0) record.resumed = std::max(record.raised, record.installed.load());
      record.intended = line_.to_ns(record.intended);
      record.raised = line_.to_ns(record.raised);
      record.resumed = line_.to_ns(record.resumed);
    }
  }
}

// A page server that was killed between installing a page and counting it leaves a page resolved for nobody: it goes to the
// first vCPU's account.
void Vmm::credit_unclaimed() const noexcept {
  if (guest_.header().server_epoch.load() == 0) return;
  std::uint64_t resolved = 0, counted = 0;
  for (std::uint64_t page = 0; page < guest_.pages(); ++page)
    resolved += resolver_->record().state(page) == PageState::resolved && !resolved_at_start(guest_, page);
  for (const auto& vcpu : vcpus_) counted += vcpu->state().resolved_by_vcpu.load() + vcpu->state().resolved_by_reader.load();
  if (resolved > counted) vcpus_.front()->state().resolved_by_reader.fetch_add(resolved - counted);
}

Verified Vmm::verify() const { return verify_region(guest_, region_, resolver_->record()); }

PageStates Vmm::page_states() const {
  PageStates states{};
  for (std::uint64_t page = 0; page < guest_.pages(); ++page) ++states[static_cast<std::size_t>(resolver_->record().state(page))];
  return states;
}

Counters Vmm::counters() const {
  Counters sum;
  for (const auto& vcpu : vcpus_) sum += vcpu->counters();
  for (const Disturbances::Thread& thread : disturbers()) sum += thread.work->counters;
  return sum;
}

}  // namespace uffd
