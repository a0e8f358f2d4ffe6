// The page server: reader threads over the userfaultfds handed to it, and a thread for each request ring, where vCPUs that
// exit ask. It answers for contents: what it hands out is complete, and delayed as asked.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "guest/counters.hpp"
#include "guest/guest.hpp"
#include "guest/inject.hpp"
#include "kernel/descriptor.hpp"
#include "kernel/placement.hpp"
#include "kernel/thread_usage.hpp"
#include "resolve/resolver.hpp"
#include "server/live.hpp"
#include "server/prefetcher.hpp"
#include "source/source.hpp"

namespace uffd {

enum class Wait { poll, epoll, spin };

struct PageServerConfig {
  std::uint32_t readers = 1;
  std::string wait = "poll";
  std::uint32_t events_per_read = 16;
  double delay_us = 0.0;
  bool delay_exponential = false;
  std::uint64_t seed = 0;
  std::uint32_t fault_around_pages = 1;
  bool track_removes = false;  ///< the userfaultfds tell of pages that are taken away
  std::vector<CpuList> reader_cpus;
  SourceConfig source;
  Inject inject;
  bool successor = false;  ///< in place of a page server that was killed while it served this guest
  PrefetchConfig prefetch;
};

struct RegionView {
  std::uint64_t base_host_virt_addr = 0, size = 0, offset = 0, page_size = 0;
};

/// One userfaultfd and what its VMM process told of it.
struct Peer {
  Userfaultfd uffd;
  std::vector<RegionView> regions;
  int vmm = -1;
  Mapping record;  ///< theirs when they sent it, our own otherwise
  Mapping faults;  ///< empty when they sent none
  std::uint64_t slots_per_vcpu = 0;
  std::unique_ptr<Resolver> resolver;
};

struct ReaderInfo {
  std::uint32_t tid = 0;         ///< 0: never started
  Counters* counters = nullptr;  ///< in the guest's shared memory where it has room for them: there they outlive us
  CpusSeen seen;
  ThreadUsage usage;  ///< of its whole life
};

/// What a thread of the page server does, and its number among those that do it.
struct ThreadName {
  const char* role;
  std::size_t number;
};

class PageServer {
 public:
  /// Throws ConfigError, KernelError.
  PageServer(const Guest& guest, PageServerConfig config);
  ~PageServer();
  PageServer(const PageServer&) = delete;
  PageServer& operator=(const PageServer&) = delete;

  /// `fd` is duplicated. `record_fd` and `faults_fd` are -1 for a VMM that is not ours.
  void add(int fd, std::vector<RegionView> regions, int vmm, int record_fd, int faults_fd);
  /// Serves until stop(); throws what a reader threw.
  void serve();
  void stop() noexcept;

  /// What the guest is doing; at most twice a second, one caller at a time.
  Live::Look look() { return live_.look(); }

  Counters counters() const;
  const Source& source() const noexcept { return *source_; }
  /// How much the background stream had brought by when, in CLOCK_MONOTONIC nanoseconds; after serve().
  std::vector<PrefetchMark> prefetch_marks() const;
  /// The readers, then the rings' threads, then the background stream's.
  const std::vector<ReaderInfo>& threads() const noexcept { return infos_; }
  ThreadName name_of(std::size_t index) const noexcept;

  /// Poisons the page in every mapping of the guest that has it free; the one that asked does its own.
  void poison_in_others(std::uint64_t page, Counters& counters) const noexcept;

 private:
  friend class Reader;
  /// Whether a thread spins for want of work. Only those that answer do: rings where vCPUs exit, readers where they sleep; the
  /// others would burn the CPU that these are placed on too.
  bool spins(bool for_exits) const noexcept {
    return wait_ == Wait::spin && for_exits == (guest_.header().exits.load(std::memory_order_relaxed) != 0);
  }
  void wake_everybody() const noexcept;
  friend class Prefetcher;
  void serve_ring(std::uint32_t index, ReaderInfo& info);
  void answer(std::uint32_t vcpu, RequestState state) const noexcept;
  std::vector<Peer*> peers_of(std::uint32_t reader) const;

  const Guest& guest_;
  PageServerConfig config_;
  Wait wait_ = Wait::poll;
  Mapping alias_;
  std::unique_ptr<Source> source_;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::vector<ReaderInfo> infos_;       ///< readers, the rings' threads, the background stream
  std::vector<Counters> own_counters_;  ///< of those the guest has no room for
  std::uint8_t claim_;                  ///< ours in the page records
  std::vector<PrefetchMark> prefetch_marks_;
  TickLine line_;
  Live live_;
  std::mutex ending_;
  std::condition_variable end_;  ///< a thread has ended, or all are to
  std::atomic<bool> stopping_{false};
};

}  // namespace uffd
