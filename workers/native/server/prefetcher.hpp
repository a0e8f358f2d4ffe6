// The page server's background stream: it brings pages nobody has asked for yet, in order or by a recorded working set, and
// installs them in every mapping of the guest that has them free. It takes a page in hand only when the contents are here, so
// whoever faults on one meanwhile is answered as if there were no stream; who was faster is in the page record.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/clock.hpp"
#include "resolve/resolver.hpp"

namespace uffd {

class PageServer;
struct Peer;
struct ReaderInfo;

struct PrefetchConfig {
  std::string name = "none";         ///< none, order, working_set
  std::vector<std::uint32_t> pages;  ///< working_set: in the order they are to come
  std::uint32_t batch_pages = 16;    ///< most neighbours brought at a time; one batch is under way at a time
  double mib_per_s = 0.0;            ///< 0: as fast as it goes
  std::vector<int> cpus;             ///< its thread may run on; empty: anywhere
};

/// Throws ConfigError: an unknown name, a page that the guest does not have.
void check(const PrefetchConfig& config, std::uint64_t pages);

/// How much it had brought by when.
struct PrefetchMark {
  Ticks at;
  std::uint64_t pages;
};

class Prefetcher {
 public:
  /// `config` has been checked.
  Prefetcher(PageServer& server, const PrefetchConfig& config, ReaderInfo& info, std::vector<PrefetchMark>& marks);
  /// From the common start until all is brought, every vCPU has ended, or the page server stops.
  void serve();

 private:
  bool wait_for_start() const;
  bool over() const noexcept;
  std::uint64_t size() const noexcept { return in_order_ ? pages_ : config_.pages.size(); }
  std::uint64_t page_at(std::uint64_t index) const noexcept { return in_order_ ? index : config_.pages[index]; }
  bool wanted(std::uint64_t page) const noexcept;
  bool fetch(const PageRun& run);
  bool fetch_remotely(const PageRun& run, const std::vector<bool>& mine);
  void install(const Peer& peer, const PageRun& run);
  bool sleep_until(Ticks due) const noexcept;
  void mark(bool last);

  PageServer& server_;
  const PrefetchConfig& config_;
  ReaderInfo& info_;
  std::vector<PrefetchMark>& marks_;
  const std::uint64_t pages_;
  const bool in_order_;
  std::vector<std::byte> staging_;  ///< contents of anonymous pages, or what is read of a snapshot others map
};

}  // namespace uffd
