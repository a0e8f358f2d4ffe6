#include "vmm/vmm.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"
#include "resolve/reclaim.hpp"
#include "vcpu/signals.hpp"
#include "vmm/stamps.hpp"

namespace uffd {

namespace {

using Seconds = std::chrono::duration<double>;

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

PageRecord record_in(const Mapping& bytes) { return PageRecord(reinterpret_cast<std::atomic<std::uint8_t>*>(bytes.data())); }

void check(const Guest& guest, const VmmConfig& config, const StrategyInfo& info) {
  const GuestConfig& memory = guest.config();
  if (config.vcpus == 0 || config.first_vcpu + config.vcpus > memory.vcpus)
    throw ConfigError("the VMM process's vCPUs are not vCPUs of the guest");
  if (config.uffds == 0 || config.uffds > guest.pages())
    throw ConfigError("uffds_per_vmm must be between 1 and the region's pages");
  if (config.sample_every == 0) throw ConfigError("sample_every must be at least 1");
  if (std::find(info.memory.begin(), info.memory.end(), memory.memory) == info.memory.end())
    throw ConfigError("strategy " + info.name + " does not work on " + memory_type_name(memory.memory) + " memory");
  if (memory.external && (!info.userfaultfd || info.exit != ExitKind::none))
    throw ConfigError("strategy " + info.name + " cannot be resolved by a page server that is not ours; use uffd_wait");
  if (memory.contents_of_file && verify_level(config.verify) == Verify::page)
    throw ConfigError("verify=page would read the snapshot while the vCPUs run: use verify=word");
  if (memory.contents_of_file && config.disturb.devices.threads != 0)
    throw ConfigError("devices would read the snapshot while the vCPUs run: leave them out, or use seeded contents");
  if (memory.memory == MemoryType::anon && config.vcpus != memory.vcpus)
    throw ConfigError("anonymous memory has one mapping: vcpus_per_vmm must be vcpus");
}

RegistrationPlan registration_plan(const VmmConfig& config, const StrategyInfo& info) {
  const std::uint64_t removes = config.disturb.balloon.track_removes ? UFFD_FEATURE_EVENT_REMOVE : 0;
  return {config.snapshot, config.uffds, info.userfaultfd, info.features | removes};
}

}  // namespace

Vmm::Vmm(const Guest& guest, VmmConfig config)
    : guest_(guest),
      config_((check(guest, config, strategy_info(config.strategy)), std::move(config))),
      info_(strategy_info(config_.strategy)),
      options_(complete_options(info_, config_.options)),
      strategy_(info_.make(options_)),
      registration_(guest_, registration_plan(config_, info_)) {
  const GuestConfig& memory = guest_.config();
  const auto fault_around = static_cast<std::uint32_t>(info_.value_of(OptionRole::fault_around, options_, 1));
  const auto populate = static_cast<std::uint32_t>(info_.value_of(OptionRole::populate, options_, 1));
  if (std::max(fault_around, populate) > memory.request_pages)
    throw ConfigError("strategy " + info_.name + " asks for more pages at a time than request_pages of the guest");
  make_tables();
  if (memory.external && memory.drops) dropped_ = std::make_unique<DroppedPages>(guest_.pages());
  resolver_ = std::make_unique<Resolver>(registration_.shards, record_in(record_), memory, fault_around, &guest_);
  shared_ = std::make_unique<VmmShared>(VmmShared{
      .guest = guest_,
      .strategy = *strategy_,
      .exit = strategy_->exit(info_.exit),
      .userfaultfd = info_.userfaultfd,
      .external = memory.external,
      .dropped = dropped_.get(),
      .populate_first = info_.restore == Restore::eager ? &populate_first_ : nullptr,
      .populate_pages = populate,
      .eexist_only = info_.value_of(OptionRole::page_record, options_, 0) == kEexistOnly,
      .crash_on_memory_error = crash_of(config_.on_memory_error),
      .count_mmap_lock = config_.count_mmap_lock,
      .track_removes = info_.userfaultfd && config_.disturb.balloon.track_removes,
      .memory = memory.memory,
      .resolver = *resolver_,
      .region = registration_.region.data(),
      .page_bytes = memory.page_bytes,
      .verify = verify_level(config_.verify),
      .sample_every = config_.sample_every,
      .record_capacity = config_.record_capacity,
  });
  for (std::uint32_t i = 0; i < config_.vcpus; ++i)
    vcpus_.push_back(std::make_unique<Vcpu>(*shared_, config_.first_vcpu + i, records_of(i), config_.access,
                                            i < config_.vcpu_cpus.size() ? config_.vcpu_cpus[i] : CpuList{}));
  add_disturbances();
  guest_.header().sample_every.store(config_.sample_every, std::memory_order_relaxed);  // relaxed: before any server starts
  guest_.header().exits.store(info_.exit != ExitKind::none, std::memory_order_release);
  install_handlers();
  make_engine();
}

Vmm::~Vmm() { end_sleepers(); }

void Vmm::make_tables() {
  record_fd_ = make_memfd("uffd-loadgen-record", guest_.pages(), false);
  record_ = Mapping::populated(record_fd_.get(), guest_.pages());
  const std::uint64_t fault_bytes = config_.vcpus * slots_per_vcpu() * sizeof(FaultRecord);
  faults_fd_ = make_memfd("uffd-loadgen-faults", fault_bytes, false);
  faults_ = Mapping::populated(faults_fd_.get(), fault_bytes);
}

void Vmm::add_disturbances() {
  if (info_.userfaultfd && config_.disturb.devices.threads != 0 && config_.disturb.devices.second_mapping)
    device_mapping_ = std::make_unique<DeviceMapping>(guest_, userfaultfd_features(guest_.config().memory, 0));
  const GuestView mine{registration_.region.data(), resolver_->record()};
  const GuestView theirs =
      device_mapping_ == nullptr ? mine : GuestView{device_mapping_->region.data(), device_mapping_->pages()};
  PopulateFirst* const populate_first = info_.restore == Restore::eager ? &populate_first_ : nullptr;
  disturbances_ =
      std::make_unique<Disturbances>(config_.disturb, Scene{guest_, config_.vmm, mine, theirs, dropped_.get(), populate_first});
}

void Vmm::make_engine() {
  const EngineInfo& engine = engine_info(config_.engine);
  const Options options = complete_options("engine " + engine.name, engine.options, config_.engine_options);
  engine_ = engine.make({guest_, *shared_, registration_.region, record_, faults_, config_.first_vcpu, config_.vcpus, options});
}

PrepareJob Vmm::prepare_job() const noexcept {
  return {guest_, registration_.region, *resolver_, info_.userfaultfd, config_.cold, config_.vmm == 0, device_mapping_.get()};
}

Prepared Vmm::prepare() const { return uffd::prepare(prepare_job()); }

std::uint64_t Vmm::reclaim() const {
  const std::uint64_t own = uffd::reclaim(guest_, registration_.region, resolver_->record());
  return device_mapping_ == nullptr ? own : own + uffd::reclaim(guest_, device_mapping_->region, device_mapping_->pages());
}

void Vmm::run() {
  line_.begin();
  watchdog_ = std::make_unique<Watchdog>(guest_, resolver_->record(), config_.first_vcpu, config_.vcpus, config_.watchdog_s);
  make_next_round();
  std::vector<std::thread> threads;
  Threads handles;
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
  run_rounds(handles);
  stop_disturbances();
  for (std::thread& thread : threads) thread.join();
  line_.end();
}

void Vmm::make_next_round() {
  next_round_ = std::make_unique<NextRound>(BetweenRounds{
      .guest = guest_,
      .config = config_.rounds,
      .patience_s = config_.watchdog_s,
      .leads = config_.vmm == 0,
      .registration = registration_,
      .tracks_removes = info_.userfaultfd && config_.disturb.balloon.track_removes,
      .record = record_,
      .devices = device_mapping_.get(),
      .disturbances = *disturbances_,
      .vcpus = vcpus_,
      .prepare = prepare_job(),
      .credit_unclaimed = [this] { credit_unclaimed(); },
      .forget_counted = [this] { counted_before_ = counted(); },
  });
}

void Vmm::run_rounds(const Threads& threads) {
  std::uint32_t finished = 0;
  try {
    do watch(threads, ++finished);
    while (!guest_.stopping() && next_round_->prepare(finished));
  } catch (const std::exception& error) {
    guest_.stop(std::string("between rounds: ") + error.what());
  }
  end(threads);
}

// Asleep but for a look twice a second, and for a stop, which wakes it. The guest's last vCPU to end a round bumps `ended` last,
// and so does a stop; what is read before the second look cannot be missed.
void Vmm::watch(const Threads& threads, std::uint32_t rounds) {
  const auto over = [&] {
    for (std::size_t i = 0; i < threads.size(); ++i)
      if (vcpus_[i]->state().rounds.load(std::memory_order_acquire) < rounds && !ended(i)) return false;
    return true;
  };
  while (!guest_.stopping()) {
    FutexWord& ended = guest_.header().ended;
    const std::uint32_t before = ended.load(std::memory_order_acquire);
    if (over()) return;
    if (const std::string reason = watchdog_->look(std::chrono::steady_clock::now()); !reason.empty()) guest_.stop(reason);
    if (!guest_.stopping()) futex_wait(ended, before, kWatchIntervalNs);
  }
}

// Until every vCPU's thread has ended: at once when all rounds are over, and with a kick or two when the run is being stopped.
void Vmm::end(const Threads& threads) {
  auto stopped = std::chrono::steady_clock::time_point::max();
  const auto all_ended = [&] {
    for (std::size_t i = 0; i < threads.size(); ++i)
      if (!ended(i)) return false;
    return true;
  };
  while (!all_ended()) {
    const auto now = std::chrono::steady_clock::now();
    if (!guest_.stopping()) {
      const std::uint32_t before = guest_.header().ended.load(std::memory_order_acquire);
      if (!all_ended() && !guest_.stopping()) futex_wait(guest_.header().ended, before, kWatchIntervalNs);
      continue;
    }
    stopped = std::min(stopped, now);
    for (std::size_t i = 0; i < threads.size(); ++i)
      if (!ended(i)) engine_->kick(static_cast<std::uint32_t>(i), threads[i]);
    // A thread asleep in a fault taken inside the kernel takes no signal but SIGKILL; without registration it need not sleep.
    if (now - stopped > std::chrono::seconds(1)) end_sleepers();
    std::this_thread::sleep_for(kKickInterval);
  }
}

void Vmm::let_go() noexcept {
  for (const auto& uffd : registration_.uffds) uffd->close();
}

// Those asleep in a fault or in a drop are served by a reader, as ever. When the run is being stopped there may be none.
void Vmm::stop_disturbances() {
  const auto began = std::chrono::steady_clock::now();
  const Seconds patience(config_.watchdog_s > 0 ? config_.watchdog_s : 10.0);
  disturbances_->stop([&] {
    if (!guest_.stopping() && std::chrono::steady_clock::now() - began > patience)
      guest_.stop(
          "stuck: " + disturbances_->still_running() +
          " did not end: asleep in a fault, in dropping a page whose remove event was not read, or in the kernel's own work");
    if (!guest_.stopping()) return;
    end_sleepers();
    read_events();
  });
}

// A dropper sleeps until its remove event has been read, registered or not.
void Vmm::read_events() const noexcept {
  std::array<uffd_msg, 16> messages;
  for (const auto& uffd : registration_.uffds)
    while (::read(uffd->fd(), messages.data(), sizeof messages) > 0) {
    }
}

void Vmm::end_sleepers() const noexcept {
  if (device_mapping_ != nullptr) device_mapping_->end_sleepers();
  registration_.end_sleepers();
}

void Vmm::finish() {
  if (finished_) return;
  finished_ = true;
  end_sleepers();
  if (guest_.config().external) resident_ = Resident(guest_, registration_.region);
  credit_unclaimed();
  for (const auto& vcpu : vcpus_) vcpu->settle_round();
  for (const auto& vcpu : vcpus_)
    convert_stamps(guest_, line_, {vcpu->records(), vcpu->recorded()}, vcpu->rounds(), vcpu->longest());
}

// A page server that was killed between installing a page and counting it leaves a page resolved that no vCPU's account has: it
// goes to the first vCPU's. After each round, for the next one forgets which pages are resolved.
void Vmm::credit_unclaimed() const noexcept {
  if (guest_.header().server_epoch.load() == 0) return;
  std::uint64_t resolved = 0, first = 0;
  const bool alone = config_.vcpus == guest_.config().vcpus;
  for (std::uint64_t page = 0; page < guest_.pages(); ++page) {
    if (resolver_->record().state(page) != PageState::resolved || resolved_at_start(guest_, page)) continue;
    ++resolved;
    first += !alone && guest_.first_resolved(page);
  }
  const std::uint64_t mine = counted() - counted_before_;
  if (resolved <= mine) return;
  vcpus_.front()->state().resolved_by_reader.fetch_add(resolved - mine);
  vcpus_.front()->state().first_by_reader.fetch_add(alone ? resolved - mine : first);
}

std::uint64_t Vmm::counted() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& vcpu : vcpus_) sum += vcpu->state().resolved_by_vcpu.load() + vcpu->state().resolved_by_reader.load();
  return sum;
}

Verified Vmm::verify() const {
  return verify_region(guest_, registration_.region, resolver_->record(), resident_, dropped_.get());
}

std::uint64_t Vmm::brought_untouched() const { return resident_.untouched(guest_, resolver_->record()); }

std::vector<std::uint64_t> Vmm::page_nodes() const {
  if (nodes_with_memory().empty()) return {};
  const PageLayout& layout = guest_.layout();
  std::vector<std::uint64_t> found;
  for (std::uint64_t i = 0; i < layout.regions(); ++i) {
    const std::uint64_t first = layout.first_page(i);
    const std::byte* const start = registration_.region.data() + layout.offset(first);
    const std::vector<std::uint64_t> here = pages_on_nodes(start, layout.end_page(i) - first, guest_.config().page_bytes);
    found.resize(std::max(found.size(), here.size()));
    for (std::size_t node = 0; node < here.size(); ++node) found[node] += here[node];
  }
  return found;
}

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
