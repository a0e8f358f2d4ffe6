// The prefetcher: it brings pages that were not asked for yet, in order or by a recorded working set, and installs them in
// every mapping of the guest that has them free. It claims a page only when the contents are here, so a fault on one meanwhile is
// answered as if there were no prefetcher; the page record shows which of the two was faster.
#pragma once

#include <cstdint>
#include <vector>

#include "kernel/clock.hpp"
#include "server/parts.hpp"
#include "server/state.hpp"

namespace uffd {

/// How much it had brought by when.
struct PrefetchMark {
  Ticks at;
  std::uint64_t pages;
};

class Prefetcher {
 public:
  Prefetcher(ServerState& server, ThreadInfo& thread, std::uint32_t number, std::vector<PrefetchMark>& marks);
  /// From the common start until all is brought, every vCPU has ended, or the page server stops.
  void serve();

 private:
  bool wait_for_start() const;
  bool over() const noexcept;
  PageRun next_run(std::uint64_t& at) const;
  PageRun next_unit(const PageRun& unit, std::uint64_t page, std::uint64_t& at) const;
  PageRun unit_of(std::uint64_t page) const noexcept;
  std::uint64_t size() const noexcept { return in_order_ ? pages_ : config_.pages.size(); }
  std::uint64_t page_at(std::uint64_t index) const noexcept { return in_order_ ? index : config_.pages[index]; }
  bool wanted(std::uint64_t page) const noexcept;
  bool bring(const PageRun& run);
  bool fetch_remotely(const PageRun& run, const std::vector<bool>& mine);
  void install(const Peer& peer, const PageRun& run);
  void install_mapped(const Peer& peer, const PageRun& claimed);
  Installed install_part(const Peer& peer, const Part& part);
  void count_brought(const PageRun& run, std::uint64_t pages);
  bool sleep_until(Ticks due) const noexcept;
  void mark(bool last);

  ServerState& server_;
  const Guest& guest_;
  const PrefetchConfig& config_;
  Counters& counters_;
  std::vector<PrefetchMark>& marks_;
  const std::uint64_t pages_;
  const bool in_order_;
  Delay delay_;
  std::vector<Part> parts_;
  std::vector<std::byte> staging_;  ///< contents of anonymous pages, or what is read of a snapshot that others map
};

}  // namespace uffd
