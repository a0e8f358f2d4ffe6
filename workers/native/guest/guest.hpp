// The guest's memory and the one page of shared truth its processes meet in. Two memfds: the region (none for anonymous
// memory, which only its own process can see), and the shared one: header, kinds, contents bits, vCPU states and requests,
// counters of the page server's threads. What any process of the guest may leave behind when it is killed is here, so that the
// others, or its successor, can go on.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "guest/contents.hpp"
#include "guest/counters.hpp"
#include "guest/fault_record.hpp"
#include "guest/guest_config.hpp"
#include "guest/page_layout.hpp"
#include "guest/page_run.hpp"
#include "guest/request_ring.hpp"
#include "guest/shared_header.hpp"
#include "guest/snapshot_file.hpp"
#include "guest/vcpu_state.hpp"
#include "kernel/descriptor.hpp"
#include "kernel/mapping.hpp"

namespace uffd {

/// Why a kernel with base pages of so many bytes is not supported; empty where it is.
std::string refuse_base_pages(std::uint64_t bytes);

class Guest {
 public:
  explicit Guest(const GuestConfig& config);
  /// Attaches to another process's guest (the descriptors are duplicated). Throws ConfigError when they are not a guest's.
  static Guest attach(int region_fd, int shared_fd);

  const GuestConfig& config() const noexcept { return header().config; }
  std::uint64_t pages() const noexcept { return pages_; }
  /// Of the VMM processes' mappings; the memfd has no gaps.
  const PageLayout& layout() const noexcept { return layout_; }
  const Contents& contents() const noexcept { return contents_; }
  /// Of a guest whose contents are a snapshot's: opens the snapshot, so that this process can read whole pages of it. Throws
  /// ConfigError and KernelError.
  void open_contents(const std::string& path);
  /// Of such a guest, by page: what the word that a vCPU touches holds, read before anything starts. Empty of another one.
  std::span<std::uint64_t> touched_words() const noexcept {
    return {reinterpret_cast<std::uint64_t*>(shared_.data() + header().touched_offset), config().contents_of_file ? pages() : 0};
  }
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
  /// Contents travel here for anonymous memory: `request_pages` pages a vCPU.
  std::byte* payload(std::uint32_t vcpu) const noexcept {
    return shared_.data() + header().payload_offset + vcpu * payload_bytes();
  }
  std::uint64_t payload_bytes() const noexcept {
    return config().memory == MemoryType::anon ? config().page_bytes * config().request_pages : 0;
  }

  /// Contents complete: set with release order after the last byte, so a thread that reads it as set may map the page.
  bool complete(std::uint64_t page) const noexcept {
    return bits(header().contents_offset)[page / 64].load(std::memory_order_acquire) >> (page % 64) & 1;
  }
  void set_complete(std::uint64_t page) const noexcept {
    bits(header().contents_offset)[page / 64].fetch_or(1ull << (page % 64), std::memory_order_release);
  }
  /// The same of every page of a run.
  bool complete(const PageRun& run) const noexcept {
    return by_word(run, [&](std::uint64_t word, std::uint64_t mask) {
      return (bits(header().contents_offset)[word].load(std::memory_order_acquire) & mask) == mask;
    });
  }
  /// True for the one who is to fetch the page's contents.
  bool claim_fetch(std::uint64_t page) const noexcept {
    return (bits(header().fetching_offset)[page / 64].fetch_or(1ull << (page % 64), std::memory_order_acq_rel) >> (page % 64) &
            1) == 0;
  }

  /// A mapping of the guest has resolved the pages. How many of them it was the first for: pages of the guest are counted once,
  /// whatever the number of its mappings.
  std::uint32_t first_resolved(const PageRun& run) const noexcept {
    if (config().vcpus == config().vcpus_per_vmm) return run.count;  // one mapping
    std::uint32_t first = 0;
    by_word(run, [&](std::uint64_t word, std::uint64_t mask) {
      // relaxed: who was first is all that is asked
      const std::uint64_t before = bits(header().resolved_offset)[word].fetch_or(mask, std::memory_order_relaxed);
      first += static_cast<std::uint32_t>(std::popcount(mask & ~before));
      return true;
    });
    return first;
  }
  bool first_resolved(std::uint64_t page) const noexcept { return first_resolved(PageRun{page, 1}) != 0; }
  /// Between rounds: no page has been resolved in any mapping.
  void forget_resolved() const noexcept {
    // relaxed: the VMM processes meet before and behind it
    for (std::uint64_t word = 0; word < (pages() + 63) / 64; ++word)
      bits(header().resolved_offset)[word].store(0, std::memory_order_relaxed);
  }

  /// The page's contents are gone: they are to be fetched once more.
  void forget(std::uint64_t page) const noexcept {
    bits(header().contents_offset)[page / 64].fetch_and(~(1ull << (page % 64)), std::memory_order_acq_rel);
    bits(header().fetching_offset)[page / 64].fetch_and(~(1ull << (page % 64)), std::memory_order_acq_rel);
  }

  /// Remove events: the word of a reader is odd while it has read events and not yet marked the pages they take away. One a
  /// thread of the page server that counts in the shared memory, and at least kFewestReaders.
  std::span<std::atomic<std::uint32_t>> marking() const noexcept {
    return {reinterpret_cast<std::atomic<std::uint32_t>*>(shared_.data() + header().marking_offset), most_readers(config())};
  }
  static constexpr std::uint32_t kFewestReaders = 64;
  static std::uint32_t most_readers(const GuestConfig& config) noexcept {
    return config.server_threads > kFewestReaders ? config.server_threads : kFewestReaders;
  }

  /// Waits until every remove event that a reader has read by now is in the page records. The kernel lets the dropper go on
  /// inside the reader's read(2), so for a moment a page is gone and its record is still resolved.
  void wait_for_removes() const noexcept;

  RequestRing& ring(std::uint32_t index) const noexcept;
  void post_request(std::uint32_t vcpu) const noexcept;
  /// Takes the ring's next request after that of `vcpu`, one of its own, in turn, so that every vCPU is served.
  bool next_request(std::uint32_t index, std::uint32_t& vcpu) const noexcept;

  /// Counters of the page server's thread `index`, below `server_threads`.
  Counters& server_counters(std::uint32_t index) const noexcept {
    return reinterpret_cast<Counters*>(shared_.data() + header().counters_offset)[index];
  }
  /// For a page server in place of one that was killed: fetches that were begun are released, requests that were taken
  /// are asked again, and the events it had read and not answered are counted as dropped.
  void succeed_server() const noexcept;

  /// The last vCPU is at the barrier: it opens, or waits for `release`.
  void all_arrived() const noexcept;
  /// Waits until all vCPUs are at the barrier of a gated guest. False: not within the time, or the run was stopped.
  bool wait_armed(std::uint64_t timeout_ns) const noexcept;
  /// Opens the barrier of the last of `rounds` rounds at `at_ns` (CLOCK_MONOTONIC), at once when that has passed; earlier only
  /// when the run is stopped. Nothing where it is open: the page server that opened it may have died before it said so.
  void release(std::uint64_t at_ns, std::uint32_t rounds) const noexcept;

  /// Ends every wait of every process of the guest; the first reason given stays.
  void stop(const std::string& reason) const noexcept;
  bool stopping() const noexcept { return header().stopping.load(std::memory_order_acquire) != 0; }
  std::string stop_reason() const;

 private:
  Guest(Descriptor region_fd, Descriptor shared_fd, Mapping shared);
  std::atomic<std::uint64_t>* bits(std::uint64_t offset) const noexcept {
    return reinterpret_cast<std::atomic<std::uint64_t>*>(shared_.data() + offset);
  }
  /// `good(word, mask)` of each word of a bitmap that has bits of the run, which `mask` is; false, and no more, after a false
  /// one.
  template <typename Good>
  static bool by_word(const PageRun& run, const Good& good) noexcept {
    const std::uint64_t end = run.first + run.count;
    for (std::uint64_t page = run.first; page < end;) {
      const std::uint64_t next = std::min(end, page / 64 * 64 + 64);
      if (!good(page / 64, ~0ull >> (64 - (next - page)) << (page % 64))) return false;
      page = next;
    }
    return true;
  }

  Descriptor region_fd_;
  Descriptor shared_fd_;
  Mapping shared_;
  Contents contents_;
  std::unique_ptr<SnapshotFile> file_;  ///< of `contents_`
  std::uint64_t pages_;
  PageLayout layout_;
};

}  // namespace uffd
