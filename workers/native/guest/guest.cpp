#include "guest/guest.hpp"

#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kMagic = 0x6e65676c64666675;  // "uffdlgen"
constexpr std::uint32_t kVersion = 9;
constexpr std::uint32_t kMostVcpus = 1 << 16;
constexpr int kEverybody = 0x7fffffff;

std::uint64_t up(std::uint64_t value, std::uint64_t to) { return (value + to - 1) / to * to; }

std::uint32_t slots_of_a_ring(const GuestConfig& config) { return (config.vcpus + config.rings - 1) / config.rings; }

std::uint64_t ring_bytes(const GuestConfig& config) {
  return sizeof(RequestRing) + up(slots_of_a_ring(config), 512) / 8;  // whole cache lines
}

void check(const GuestConfig& config) {
  const std::uint64_t page = config.page_bytes;
  if (const std::string refused = refuse_base_pages(static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))); !refused.empty())
    throw ConfigError(refused);
  if (page < kBasePageBytes || !std::has_single_bit(page))
    throw ConfigError("page_bytes must be a power of two of at least 4096");
  if (config.region_bytes == 0 || config.region_bytes % page != 0)
    throw ConfigError("region_bytes must be a positive multiple of page_bytes");
  if (config.region_bytes / page > 0xffffffffull) throw ConfigError("a region has at most 2^32 - 1 pages");
  if (config.vcpus > kMostVcpus) throw ConfigError("vcpus must be at most 65536: a fault record has 16 bits for its vCPU");
  if (config.vcpus == 0 || config.vcpus_per_vmm == 0 || config.vcpus % config.vcpus_per_vmm != 0)
    throw ConfigError("vcpus must be a positive multiple of vcpus_per_vmm");
  if (config.rings == 0 || config.rings > config.vcpus) throw ConfigError("rings must be between 1 and vcpus");
  if (config.regions == 0 || config.regions > config.region_bytes / page)
    throw ConfigError("regions must be between 1 and the region's pages");
  if (config.request_pages == 0) throw ConfigError("request_pages must be at least 1");
}

Descriptor make_region(const GuestConfig& config) {
  if (!config.in_memfd()) return {};
  Descriptor region = make_memfd("uffd-loadgen-region", config.region_bytes, config.memory == MemoryType::hugetlb);
  if (config.numa.mode != NumaMode::inherit) place_memory(Mapping::shared(region.get(), config.region_bytes), config.numa);
  return region;
}

}  // namespace

std::string refuse_base_pages(std::uint64_t bytes) {
  if (bytes == kBasePageBytes) return {};
  return "this kernel has base pages of " + std::to_string(bytes / 1024) +
         " KiB, and only those of 4 KiB are supported: boot a kernel with 4-KiB pages (on arm64 CONFIG_ARM64_4K_PAGES)";
}

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
    case Stage::between_rounds: return "between rounds";
    case Stage::done: return "done";
  }
  return "?";
}

Guest::Guest(Descriptor region_fd, Descriptor shared_fd, Mapping shared)
    : region_fd_(std::move(region_fd)),
      shared_fd_(std::move(shared_fd)),
      shared_(std::move(shared)),
      contents_(header().config.contents_seed, header().config.page_bytes),
      pages_(header().config.region_bytes / header().config.page_bytes),
      layout_(header().config) {
  if (config().contents_of_file) contents_.take_from_file(touched_words().data());
}

Guest::Guest(const GuestConfig& config)
    : contents_(config.contents_seed, config.page_bytes),
      pages_((check(config), config.region_bytes / config.page_bytes)),
      layout_(config) {
  region_fd_ = make_region(config);
  const std::uint64_t pages = pages_;
  SharedHeader layout{};
  layout.kinds_offset = up(sizeof(SharedHeader), kBasePageBytes);
  layout.contents_offset = up(layout.kinds_offset + pages, 64);
  layout.fetching_offset = up(layout.contents_offset + up(pages, 64) / 8, 64);
  layout.resolved_offset = up(layout.fetching_offset + up(pages, 64) / 8, 64);
  layout.rings_offset = up(layout.resolved_offset + up(pages, 64) / 8, 64);
  layout.vcpus_offset = layout.rings_offset + config.rings * ring_bytes(config);
  layout.counters_offset = up(layout.vcpus_offset + config.vcpus * sizeof(VcpuState), 64);
  layout.marking_offset = layout.counters_offset + config.server_threads * sizeof(Counters);
  layout.touched_offset = up(layout.marking_offset + most_readers(config) * sizeof(std::uint32_t), 64);
  const std::uint64_t touched = config.contents_of_file ? pages * sizeof(std::uint64_t) : 0;
  layout.payload_offset = up(layout.touched_offset + touched, kBasePageBytes);
  const std::uint64_t payload = config.memory == MemoryType::anon ? config.page_bytes * config.request_pages * config.vcpus : 0;
  layout.bytes = up(layout.payload_offset + payload, kBasePageBytes);

  shared_fd_ = make_memfd("uffd-loadgen-shared", layout.bytes, false);
  shared_ = Mapping::shared(shared_fd_.get(), layout.bytes);
  SharedHeader& shared = header();  // a memfd starts as zeros: every atomic in it is a valid 0
  shared.config = config;
  shared.kinds_offset = layout.kinds_offset;
  shared.contents_offset = layout.contents_offset;
  shared.fetching_offset = layout.fetching_offset;
  shared.resolved_offset = layout.resolved_offset;
  shared.rings_offset = layout.rings_offset;
  shared.vcpus_offset = layout.vcpus_offset;
  shared.counters_offset = layout.counters_offset;
  shared.marking_offset = layout.marking_offset;
  shared.touched_offset = layout.touched_offset;
  shared.payload_offset = layout.payload_offset;
  shared.bytes = layout.bytes;
  shared.version = kVersion;
  shared.magic = kMagic;
  if (config.contents_of_file) contents_.take_from_file(touched_words().data());
}

Guest Guest::attach(int region_fd, int shared_fd) {
  struct stat status{};
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

void Guest::open_contents(const std::string& path) {
  if (!config().contents_of_file) throw ConfigError("the guest's contents are those of a seed, and no snapshot's");
  file_ = std::make_unique<SnapshotFile>(path, config().region_bytes, config().page_bytes);
  contents_.take_from_file(*file_);
}

void Guest::wait_for_removes() const noexcept {
  for (std::atomic<std::uint32_t>& slot : marking()) {
    const std::uint32_t seen = slot.load(std::memory_order_acquire);
    while (seen % 2 != 0 && slot.load(std::memory_order_acquire) == seen && !stopping()) sched_yield();
  }
}

RequestRing& Guest::ring(std::uint32_t index) const noexcept {
  return *reinterpret_cast<RequestRing*>(shared_.data() + header().rings_offset + index * ring_bytes(config()));
}

void Guest::post_request(std::uint32_t vcpu) const noexcept {
  const std::uint32_t rings = config().rings;
  RequestRing& ring = this->ring(vcpu % rings);
  ring.asking()[vcpu / rings / 64].fetch_or(1ull << (vcpu / rings % 64), std::memory_order_release);
  ring.wake();
}

bool Guest::next_request(std::uint32_t index, std::uint32_t& vcpu) const noexcept {
  const std::uint32_t rings = config().rings;
  const std::uint32_t slots = slots_of_a_ring(config());
  const std::uint32_t words = (slots + 63) / 64;
  const std::uint32_t from = (vcpu / rings + 1) % slots;
  const std::uint64_t not_before = ~0ull << (from % 64);
  for (std::uint32_t i = 0; i <= words; ++i) {  // the first word twice: from `from` on, and at last the bits below it
    const std::uint32_t at = (from / 64 + i) % words;
    std::atomic<std::uint64_t>& word = ring(index).asking()[at];
    const std::uint64_t mask = i == 0 ? not_before : i == words ? ~not_before : ~0ull;
    // relaxed: a look; the bit is taken with acquire order, and one that is missed here has rung the doorbell since
    while (const std::uint64_t asking = word.load(std::memory_order_relaxed) & mask) {
      word.fetch_and(~(asking & -asking), std::memory_order_acquire);
      vcpu = (at * 64 + static_cast<std::uint32_t>(std::countr_zero(asking))) * rings + index;
      // Asked again for a successor, and answered already: then the bit is a leftover.
      auto asked = static_cast<std::uint32_t>(RequestState::asked);
      if (this->vcpu(vcpu).request.compare_exchange_strong(asked, static_cast<std::uint32_t>(RequestState::taken))) return true;
    }
  }
  return false;
}

void Guest::succeed_server() const noexcept {
  header().server_epoch.fetch_add(1, std::memory_order_acq_rel);
  for (std::atomic<std::uint32_t>& slot : marking()) slot.store(0, std::memory_order_release);
  for (SharedHeader::Answering& slot : header().answering) slot.readers.store(0, std::memory_order_release);
  for (std::uint64_t word = 0; word < (pages_ + 63) / 64; ++word)
    bits(header().fetching_offset)[word].store(bits(header().contents_offset)[word].load());
  for (std::uint32_t i = 0; i < config().vcpus; ++i) {
    auto taken = static_cast<std::uint32_t>(RequestState::taken);
    vcpu(i).request.compare_exchange_strong(taken, static_cast<std::uint32_t>(RequestState::asked));
    // Also for those that are still `asked`: the bit may have been taken and no more.
    post_request(i);
  }
  // With a remote source an event may end on another thread than the one that read it: only their sum is exact.
  std::uint64_t read = 0, ended = 0;
  for (std::uint32_t i = 0; i < config().server_threads; ++i) {
    read += server_counters(i)[Counter::events];
    ended += server_counters(i).events_ended();
  }
  for (std::uint32_t i = 0; i < config().server_threads && read > ended; ++i) {
    Counters& counters = server_counters(i);
    const std::uint64_t mine = counters[Counter::events] - std::min(counters[Counter::events], counters.events_ended());
    counters[Counter::events_dropped] += std::min(mine, read - ended);
    ended += std::min(mine, read - ended);
  }
}

void Guest::all_arrived() const noexcept {
  if (!config().gated) return release(0, header().released.load(std::memory_order_acquire) + 1);
  header().armed.fetch_add(1, std::memory_order_acq_rel);
  futex_wake(header().armed, kEverybody);
}

bool Guest::wait_armed(std::uint64_t timeout_ns) const noexcept {
  const std::uint64_t deadline = Clock::monotonic_ns() + timeout_ns;
  while (true) {
    const std::uint32_t armed = header().armed.load(std::memory_order_acquire);
    if (armed > header().released.load(std::memory_order_acquire)) break;
    const std::uint64_t now = Clock::monotonic_ns();
    if (stopping() || now >= deadline) return false;
    futex_wait(header().armed, armed, deadline - now);
  }
  return true;
}

void Guest::release(std::uint64_t at_ns, std::uint32_t rounds) const noexcept {
  SharedHeader& shared = header();
  const std::uint32_t before = shared.released.load(std::memory_order_acquire);
  if (before >= rounds) return;
  for (std::uint64_t now; !stopping() && (now = Clock::monotonic_ns()) < at_ns;) futex_wait(shared.released, before, at_ns - now);
  shared.start.store(Clock::get().now(), std::memory_order_relaxed);  // relaxed: published by `released`
  shared.released.store(rounds, std::memory_order_release);
  futex_wake(shared.released, kEverybody);
}

void Guest::stop(const std::string& reason) const noexcept {
  SharedHeader& shared = header();
  std::uint32_t unset = 0;
  if (shared.reason_set.compare_exchange_strong(unset, 1, std::memory_order_acq_rel)) {
    std::strncpy(shared.reason, reason.c_str(), sizeof shared.reason - 1);
    shared.reason_set.store(2, std::memory_order_release);
  }
  shared.stopping.store(1, std::memory_order_release);
  shared.ended.fetch_add(1, std::memory_order_release);
  shared.page_waiters.wake_all();
  futex_wake(shared.ended, kEverybody);
  futex_wake(shared.armed, kEverybody);
  futex_wake(shared.released, kEverybody);
  wake_rounds(shared.rounds);
  for (std::uint32_t i = 0; i < config().rings; ++i) ring(i).wake();
  for (std::uint32_t i = 0; i < config().vcpus; ++i) futex_wake(vcpu(i).request, kEverybody);
}

std::string Guest::stop_reason() const {
  return header().reason_set.load(std::memory_order_acquire) == 2 ? std::string(header().reason) : std::string();
}

}  // namespace uffd
