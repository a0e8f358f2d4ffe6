#include "server/page_server.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"
#include "server/reader.hpp"
#include "server/ring_server.hpp"

namespace uffd {

namespace {

std::uint32_t threads_of(const Guest& guest, const PageServerConfig& config) {
  return config.readers + guest.config().rings + (config.prefetch.name == "none" ? 0 : 1);
}

}  // namespace

PageServer::PageServer(const Guest& guest, PageServerConfig config)
    : state_(guest, config, threads_of(guest, config)), infos_(threads_of(guest, config)), live_(guest), threads_(state_) {
  const std::uint32_t shared = guest.config().server_threads;
  own_counters_.resize(infos_.size() - std::min<std::size_t>(infos_.size(), shared));
  for (std::uint32_t i = 0; i < infos_.size(); ++i)
    infos_[i].counters = i < shared ? &guest.server_counters(i) : &own_counters_[i - shared];
}

PageServer::~PageServer() { stop(); }

void PageServer::add(int fd, std::vector<RegionView> regions, int vmm, int record_fd, int faults_fd) {
  auto peer =
      std::make_unique<Peer>(state_.guest, fd, std::move(regions), vmm, record_fd, faults_fd, state_.config.fault_around_pages);
  if (state_.mapped() != nullptr) {
    const auto by_page = [](const RegionView& a, const RegionView& b) { return a.page_size < b.page_size; };
    const std::uint64_t largest = std::max_element(peer->regions().begin(), peer->regions().end(), by_page)->page_size;
    state_.zeros = Mapping::anonymous(largest, kBasePageBytes);
  }
  if (vmm >= 0) live_.watch(static_cast<std::uint32_t>(vmm), peer->faults(), peer->slots_per_vcpu(), peer->resolver().record());
  state_.peers.push_back(std::move(peer));
}

const CpuList& PageServer::cpus_of(std::uint32_t reader) const noexcept {
  static const CpuList anywhere;
  return reader < state_.config.reader_cpus.size() ? state_.config.reader_cpus[reader] : anywhere;
}

void PageServer::serve() {
  line_.begin();
  std::exception_ptr failure;
  try {
    start_threads();
  } catch (const std::exception& error) {
    failure = std::current_exception();
    state_.guest.stop(error.what());
    stop();
  }
  try {
    threads_.join();
  } catch (...) {
    if (failure == nullptr) failure = std::current_exception();
  }
  if (state_.source->remote() != nullptr) state_.source->remote()->stop();
  line_.end();
  if (failure != nullptr) std::rethrow_exception(failure);
}

void PageServer::start_threads() {
  const std::uint32_t readers = state_.config.readers, rings = state_.guest.config().rings;
  // Events that a killed predecessor had read are lost with it: every sleeper faults again.
  if (state_.config.successor)
    for (const auto& peer : state_.peers) peer->wake_all();
  if (state_.source->remote() != nullptr) state_.source->remote()->start();
  const auto start = [this](std::uint32_t index, const CpuList& cpus, std::function<void()> work) {
    threads_.start(infos_[index], name_of(index), cpus, std::move(work));
  };
  for (std::uint32_t i = 0; i < readers && !state_.peers.empty(); ++i)
    start(i, cpus_of(i), [this, i] { Reader(state_, infos_[i], i).serve(); });
  // A ring's thread runs where the reader of its number does: vCPUs that ask and vCPUs that sleep are served alike.
  for (std::uint32_t i = 0; i < rings && state_.mapped() == nullptr; ++i)
    start(readers + i, cpus_of(i), [this, i, number = readers + i] { RingServer(state_, infos_[number], i, number).serve(); });
  if (const std::uint32_t last = readers + rings; last < infos_.size())
    start(last, state_.config.prefetch.cpus, [this, last] { Prefetcher(state_, infos_[last], last, prefetch_marks_).serve(); });
}

void PageServer::stop() noexcept { threads_.stop(); }

ThreadName PageServer::name_of(std::size_t index) const noexcept {
  const std::size_t rings = state_.config.readers + state_.guest.config().rings;
  if (index < state_.config.readers) return {"reader", index};
  return index < rings ? ThreadName{"ring", index - state_.config.readers} : ThreadName{"prefetch", 0};
}

std::vector<PrefetchMark> PageServer::prefetch_marks() const {
  std::vector<PrefetchMark> marks = prefetch_marks_;
  for (PrefetchMark& mark : marks) mark.at = line_.to_ns(mark.at);
  return marks;
}

std::vector<std::byte> PageServer::logged_faults() const {
  if (state_.log == nullptr) return {};
  const std::span<const FaultRecord> records = state_.log->records();
  std::vector<std::byte> bytes(records.size_bytes());
  std::byte* at = bytes.data();
  for (const FaultRecord& record : records) {
    std::memcpy(at, static_cast<const void*>(&record), sizeof record);
    for (const std::size_t stage :
         {offsetof(FaultRecord, delivered), offsetof(FaultRecord, fetched), offsetof(FaultRecord, installed)}) {
      Ticks stamp;
      std::memcpy(&stamp, at + stage, sizeof stamp);
      stamp = line_.to_ns(stamp);
      std::memcpy(at + stage, &stamp, sizeof stamp);
    }
    at += sizeof record;
  }
  return bytes;
}

std::vector<std::uint32_t> PageServer::logged_tids() const {
  if (state_.log == nullptr) return {};
  return {state_.log->tids().begin(), state_.log->tids().end()};
}

std::array<std::uint64_t, kPageStateNames.size()> PageServer::page_states() const noexcept {
  std::array<std::uint64_t, kPageStateNames.size()> states{};
  if (state_.peers.empty()) return states;
  for (std::uint64_t page = 0; page < state_.guest.pages(); ++page)
    ++states[static_cast<std::size_t>(state_.peers.front()->resolver().record().state(page))];
  return states;
}

Counters PageServer::counters() const {
  Counters sum;
  for (const ThreadInfo& info : infos_) sum += *info.counters;
  if (state_.source->remote() != nullptr) sum += state_.source->remote()->counters();
  return sum;
}

}  // namespace uffd
