// The guest's memory and the one page of shared truth its processes meet in. Two memfds: the region (none for anonymous
// memory, which only its own process can see), and the shared one: header, kinds, contents bits, vCPU states and requests,
// counters of the page server's threads. What any process of the guest may leave behind when it is killed is here, so that the
// others, or its successor, can go on.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>

#include "guest/contents.hpp"
#include "guest/counters.hpp"
#include "guest/fault_record.hpp"
#include "kernel/clock.hpp"
#include "kernel/descriptor.hpp"
#include "kernel/futex.hpp"
#include "kernel/mapping.hpp"

namespace uffd {

struct GuestConfig {
  MemoryType memory = MemoryType::shmem;
  std::uint64_t region_bytes = 0;
  std::uint64_t page_bytes = 4096;
  bool transparent_huge_pages = false;
  std::uint32_t vcpus = 1;
  std::uint32_t vcpus_per_vmm = 1;
  std::uint64_t seed = 0;           ///< of the access orders
  std::uint64_t contents_seed = 0;  ///< of what the pages hold
  std::uint32_t fault_around_pages = 1;
  std::uint32_t rings = 1;           ///< request rings, each with a thread of the page server
  std::uint32_t server_threads = 0;  ///< of the page server, that count in the shared memory
  bool gated = false;  ///< the barrier opens when somebody outside says so, not by itself: many guests of a run start together
  bool poisoned_when_resolved = false;  ///< poisoned pages: after they were resolved, the VMM not told; else at the source
  bool drops = false;                   ///< resolved pages may be taken away again: a balloon is at work
};

/// Where a vCPU is in its access; what the watchdog names.
enum class Stage : std::uint32_t {
  idle,
  at_barrier,
  touching,
  raised,
  delivered,
  fetching,
  installing,
  populating,
  thinking,
  done
};
const char* stage_name(Stage stage);

enum class RequestState : std::uint32_t {
  free,
  asked,  ///< by the vCPU
  taken,  ///< by the page server, which answers with one of:
  present,
  poisoned,
  failed,
};

/// One vCPU's line in the shared page. The first cache line is the vCPU's own, the second is written by readers, the third
/// is its request to the page server (a vCPU has at most one outstanding).
struct alignas(64) VcpuState {
  std::atomic<std::uint32_t> tid;
  std::atomic<Stage> stage;
  std::atomic<std::uint64_t> page;
  std::atomic<std::uint64_t> accesses;
  std::atomic<std::uint64_t> faults;
  std::atomic<std::uint64_t> slot;  ///< index of the record of the fault being raised
  std::atomic<std::uint64_t> resolved_by_vcpu;
  std::atomic<std::uint32_t> finished;

  alignas(64) std::atomic<std::uint64_t> resolved_by_reader;
  std::atomic<std::uint64_t> stray_waits;

  alignas(64) FutexWord request;  ///< RequestState
  FutexWord request_asleep;       ///< 1 while the vCPU sleeps on `request`: an answer has to wake it
  std::atomic<std::uint32_t> request_pages;
  std::atomic<std::uint64_t> request_page;  ///< and in the answer: the part of the run that is present
  std::atomic<std::uint64_t> wanted_page;   ///< the one of the run that was touched
  std::atomic<std::uint32_t> request_lost;  ///< 1: the contents were complete, and the kernel says they are gone
};

struct alignas(64) SharedHeader {
  std::uint64_t magic;
  std::uint32_t version;
  GuestConfig config;
  std::uint64_t kinds_offset, contents_offset, fetching_offset, rings_offset, vcpus_offset, counters_offset, payload_offset,
      bytes;

  alignas(64) FutexWord arrived;            ///< vCPUs at the barrier
  FutexWord armed;                          ///< gated: 1 once all have arrived
  FutexWord released;                       ///< 1 once all have arrived and, gated, the gate was opened
  std::atomic<Ticks> start;                 ///< the releaser's stamp: the common start
  std::atomic<std::uint32_t> exits;         ///< 1 when the strategy is meant to avoid sleeping: events are then stray waits
  std::atomic<std::uint64_t> sample_every;  ///< every how-many-th fault of a vCPU leaves a record
  FutexWord stopping;                       ///< 1 once the run was stopped from outside or by a watchdog
  FutexWord ended;                          ///< bumped by each vCPU that ends: what the watchdogs sleep on
  std::atomic<std::uint32_t> reason_set;
  char reason[512];

  std::atomic<std::uint32_t> server_epoch;  ///< how many page servers have died and been succeeded
  /// Remove events: odd while the reader of that number, or one alike to it modulo kReaderSlots, has read events and not yet
  /// marked the pages they take away.
  static constexpr std::size_t kReaderSlots = 256;
  alignas(64) std::array<std::atomic<std::uint32_t>, kReaderSlots> marking;
};

/// Where vCPUs that have exited ask, and one thread of the page server answers. vCPU v asks at ring v % rings, so that a ring's
/// thread, placed as the reader of its number is, has its vCPUs where that reader has them. The requests follow: a bit for
/// each of its vCPUs, set and taken by one instruction each, so that a process killed at whatever point leaves no half-made
/// entry for the others to wait behind.
struct alignas(64) RequestRing {
  FutexWord doorbell;  ///< bumped with every request
  FutexWord asleep;    ///< 1 while its thread sleeps on `doorbell`: a request has to wake it

  std::atomic<std::uint64_t>* asking() noexcept { return reinterpret_cast<std::atomic<std::uint64_t>*>(this + 1); }
  /// After a request, or a stop: its thread looks again.
  void wake() noexcept {
    doorbell.fetch_add(1, std::memory_order_seq_cst);
    if (asleep.load(std::memory_order_seq_cst) != 0) futex_wake(doorbell, 1);
  }
};

class Guest {
 public:
  explicit Guest(const GuestConfig& config);
  /// Attaches to another process's guest (the descriptors are duplicated). Throws ConfigError when they are not a guest's.
  static Guest attach(int region_fd, int shared_fd);

  const GuestConfig& config() const noexcept { return header().config; }
  std::uint64_t pages() const noexcept { return pages_; }
  const Contents& contents() const noexcept { return contents_; }
  int region_fd() const noexcept { return region_fd_.get(); }
  int shared_fd() const noexcept { return shared_fd_.get(); }

  SharedHeader& header() const noexcept { return *reinterpret_cast<SharedHeader*>(shared_.data()); }
  VcpuState& vcpu(std::uint32_t index) const noexcept {
    return reinterpret_cast<VcpuState*>(shared_.data() + header().vcpus_offset)[index];
  }
  std::span<std::uint8_t> kinds() const noexcept {
    return {reinterpret_cast<std::uint8_t*>(shared_.data() + header().kinds_offset), pages()};
  }
  /// All of the memory that the guest's processes share beside the region.
  std::span<std::byte> shared_bytes() const noexcept { return {shared_.data(), shared_.bytes()}; }
  /// Contents travel here for anonymous memory: `fault_around_pages` pages a vCPU.
  std::byte* payload(std::uint32_t vcpu) const noexcept {
    return shared_.data() + header().payload_offset + vcpu * payload_bytes();
  }
  std::uint64_t payload_bytes() const noexcept {
    return config().memory == MemoryType::anon ? config().page_bytes * config().fault_around_pages : 0;
  }

  /// Contents complete: set with release order after the last byte, so whoever sees it may map the page.
  bool complete(std::uint64_t page) const noexcept {
    return bits(header().contents_offset)[page / 64].load(std::memory_order_acquire) >> (page % 64) & 1;
  }
  void set_complete(std::uint64_t page) const noexcept {
    bits(header().contents_offset)[page / 64].fetch_or(1ull << (page % 64), std::memory_order_release);
  }
  /// True for the one who is to fetch the page's contents.
  bool claim_fetch(std::uint64_t page) const noexcept {
    return (bits(header().fetching_offset)[page / 64].fetch_or(1ull << (page % 64), std::memory_order_acq_rel) >> (page % 64) &
            1) == 0;
  }

  /// The page's contents are gone: they are to be fetched once more.
  void forget(std::uint64_t page) const noexcept {
    bits(header().contents_offset)[page / 64].fetch_and(~(1ull << (page % 64)), std::memory_order_acq_rel);
    bits(header().fetching_offset)[page / 64].fetch_and(~(1ull << (page % 64)), std::memory_order_acq_rel);
  }

  /// Waits until every remove event that a reader has read by now is in the page records. The kernel lets the dropper go on
  /// inside the reader's read(2), so for a moment a page is gone and its record says resolved.
  void wait_for_removes() const noexcept;

  RequestRing& ring(std::uint32_t index) const noexcept;
  void post_request(std::uint32_t vcpu) const noexcept;
  /// Takes the ring's next request after that of `vcpu`, one of its own, around and around, so that everybody has its turn.
  bool next_request(std::uint32_t index, std::uint32_t& vcpu) const noexcept;

  /// Counters of the page server's thread `index`, below `server_threads`.
  Counters& server_counters(std::uint32_t index) const noexcept {
    return reinterpret_cast<Counters*>(shared_.data() + header().counters_offset)[index];
  }
  /// For a page server in place of one that was killed: fetches that were begun are nobody's again, requests that were taken
  /// are asked again, and the events it had read and not answered are counted as dropped.
  void succeed_server() const noexcept;

  /// The last vCPU is at the barrier: it opens, or waits for `release`.
  void all_arrived() const noexcept;
  /// Waits until all vCPUs are at the barrier of a gated guest. False: not within the time, or the run was stopped.
  bool wait_armed(std::uint64_t timeout_ns) const noexcept;
  /// Opens the barrier at `at_ns` (CLOCK_MONOTONIC), at once when that has passed; earlier only when the run is stopped.
  void release(std::uint64_t at_ns) const noexcept;

  /// Ends every wait of every process of the guest; the first reason given stays.
  void stop(const std::string& reason) const noexcept;
  bool stopping() const noexcept { return header().stopping.load(std::memory_order_acquire) != 0; }
  std::string stop_reason() const;

 private:
  Guest(Descriptor region_fd, Descriptor shared_fd, Mapping shared);
  std::atomic<std::uint64_t>* bits(std::uint64_t offset) const noexcept {
    return reinterpret_cast<std::atomic<std::uint64_t>*>(shared_.data() + offset);
  }

  Descriptor region_fd_;
  Descriptor shared_fd_;
  Mapping shared_;
  Contents contents_;
  std::uint64_t pages_;
};

}  // namespace uffd
