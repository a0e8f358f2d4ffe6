#include "guest.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "error.hpp"
#include "kernel.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kMagic = 0x6e65676c64666675;  // "uffdlgen"
constexpr std::uint32_t kVersion = 2;

std::uint64_t up(std::uint64_t value, std::uint64_t to) { return (value + to - 1) / to * to; }

std::uint64_t entries_for(std::uint32_t vcpus) { return std::bit_ceil(std::uint64_t{std::max(vcpus, 2u)}); }

void check(const GuestConfig& config) {
  const std::uint64_t page = config.page_bytes;
  if (page < kBasePageBytes || !std::has_single_bit(page)) throw ConfigError("page_bytes must be a power of two of at least 4096");
  if (config.region_bytes == 0 || config.region_bytes % page != 0)
    throw ConfigError("region_bytes must be a positive multiple of page_bytes");
  if (config.region_bytes / page > 0xffffffffull) throw ConfigError("a region has at most 2^32 - 1 pages");
  if (config.vcpus == 0 || config.vcpus_per_vmm == 0 || config.vcpus % config.vcpus_per_vmm != 0)
    throw ConfigError("vcpus must be a positive multiple of vcpus_per_vmm");
  if (config.fault_around_pages == 0) throw ConfigError("fault_around_pages must be at least 1");
}

Descriptor make_region(const GuestConfig& config) {
  if (config.memory == MemoryType::anon) return {};
  return make_memfd("uffd-loadgen-region", config.region_bytes, config.memory == MemoryType::hugetlb);
}

}  // namespace

const char* stage_name(Stage stage) {
  switch (stage) {
    case Stage::idle: return "idle";
    case Stage::at_barrier: return "at the start barrier";
    case Stage::touching: return "touching a page it believes mapped";
    case Stage::raised: return "raised (touched, not yet delivered)";
    case Stage::delivered: return "delivered (deciding)";
    case Stage::fetching: return "fetching (asked the page server)";
    case Stage::installing: return "installing (resolving)";
    case Stage::populating: return "populating (MADV_POPULATE_WRITE)";
    case Stage::thinking: return "thinking";
    case Stage::done: return "done";
  }
  return "?";
}

Guest::Guest(Descriptor region_fd, Descriptor shared_fd, Mapping shared)
    : region_fd_(std::move(region_fd)),
      shared_fd_(std::move(shared_fd)),
      shared_(std::move(shared)),
      contents_(header().config.contents_seed, header().config.page_bytes),
      pages_(header().config.region_bytes / header().config.page_bytes) {}

Guest::Guest(const GuestConfig& config)
    : contents_(config.contents_seed, config.page_bytes), pages_((check(config), config.region_bytes / config.page_bytes)) {
  region_fd_ = make_region(config);
  const std::uint64_t pages = pages_;
  SharedHeader layout{};
  layout.kinds_offset = up(sizeof(SharedHeader), kBasePageBytes);
  layout.contents_offset = up(layout.kinds_offset + pages, 64);
  layout.fetching_offset = up(layout.contents_offset + up(pages, 64) / 8, 64);
  layout.ring_offset = up(layout.fetching_offset + up(pages, 64) / 8, 64);
  layout.vcpus_offset = up(layout.ring_offset + entries_for(config.vcpus) * sizeof(RingEntry), 64);
  layout.payload_offset = up(layout.vcpus_offset + config.vcpus * sizeof(VcpuState), kBasePageBytes);
  const std::uint64_t payload =
      config.memory == MemoryType::anon ? config.page_bytes * config.fault_around_pages * config.vcpus : 0;
  layout.bytes = up(layout.payload_offset + payload, kBasePageBytes);

  shared_fd_ = make_memfd("uffd-loadgen-shared", layout.bytes, false);
  shared_ = Mapping::shared(shared_fd_.get(), layout.bytes);
  SharedHeader& shared = header();  // a memfd starts as zeros: every atomic in it is a valid 0
  shared.config = config;
  shared.kinds_offset = layout.kinds_offset;
  shared.contents_offset = layout.contents_offset;
  shared.fetching_offset = layout.fetching_offset;
  shared.ring_offset = layout.ring_offset;
  shared.vcpus_offset = layout.vcpus_offset;
  shared.payload_offset = layout.payload_offset;
  shared.bytes = layout.bytes;
  for (std::uint64_t i = 0; i < ring_size(); ++i) ring()[i].turn.store(i, std::memory_order_relaxed);
  shared.version = kVersion;
  shared.magic = kMagic;
}

Guest Guest::attach(int region_fd, int shared_fd) {
  struct stat status {};
  if (::fstat(shared_fd, &status) != 0) throw KernelError("fstat of the guest's shared memfd", errno);
  const auto bytes = static_cast<std::uint64_t>(status.st_size);
  if (bytes < sizeof(SharedHeader)) throw ConfigError("the descriptor is not a guest's shared memory");
  Descriptor region(region_fd < 0 ? -1 : ::fcntl(region_fd, F_DUPFD_CLOEXEC, 0));
  Descriptor shared(::fcntl(shared_fd, F_DUPFD_CLOEXEC, 0));
  Mapping mapping = Mapping::shared(shared.get(), bytes);
  const auto* header = reinterpret_cast<const SharedHeader*>(mapping.data());
  if (header->magic != kMagic || header->version != kVersion || header->bytes != bytes)
    throw ConfigError("the descriptor is not a guest's shared memory of this version");
  return {std::move(region), std::move(shared), std::move(mapping)};
}

std::uint64_t Guest::ring_size() const noexcept { return entries_for(config().vcpus); }

// A bounded queue of many producers: each entry carries the turn it is free or full for. It holds an entry for every vCPU
// and a vCPU has one request at most, so it is never full.
void Guest::post_request(std::uint32_t vcpu) const noexcept {
  const std::uint64_t tail = header().ring_tail.fetch_add(1, std::memory_order_relaxed);
  RingEntry& entry = ring()[tail % ring_size()];
  while (entry.turn.load(std::memory_order_acquire) != tail) {
    if (stopping()) return;
  }
  entry.vcpu = vcpu;
  entry.turn.store(tail + 1, std::memory_order_release);
  header().doorbell.fetch_add(1, std::memory_order_release);
  futex_wake(header().doorbell, 1);
}

bool Guest::next_request(std::uint32_t& vcpu) const noexcept {
  const std::uint64_t head = header().ring_head.load(std::memory_order_relaxed);
  RingEntry& entry = ring()[head % ring_size()];
  if (entry.turn.load(std::memory_order_acquire) != head + 1) return false;
  vcpu = entry.vcpu;
  entry.turn.store(head + ring_size(), std::memory_order_release);
  header().ring_head.store(head + 1, std::memory_order_relaxed);
  return true;
}

void Guest::stop(const std::string& reason) const noexcept {
  SharedHeader& shared = header();
  std::uint32_t unset = 0;
  if (shared.reason_set.compare_exchange_strong(unset, 1, std::memory_order_acq_rel)) {
    std::strncpy(shared.reason, reason.c_str(), sizeof shared.reason - 1);
    shared.reason_set.store(2, std::memory_order_release);
  }
  shared.stopping.store(1, std::memory_order_release);
  shared.doorbell.fetch_add(1, std::memory_order_release);
  constexpr int everybody = 0x7fffffff;
  shared.ended.fetch_add(1, std::memory_order_release);
  futex_wake(shared.ended, everybody);
  futex_wake(shared.released, everybody);
  futex_wake(shared.doorbell, everybody);
  for (std::uint32_t i = 0; i < config().vcpus; ++i) futex_wake(vcpu(i).request, everybody);
}

std::string Guest::stop_reason() const {
  return header().reason_set.load(std::memory_order_acquire) == 2 ? std::string(header().reason) : std::string();
}

}  // namespace uffd
