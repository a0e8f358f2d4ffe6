// Where contents come from. Fetching is in two steps, so that a delay between them holds up no other fetch: take() claims
// the fetch of a run's pages, put() writes them through the alias and declares them complete. A remote source has no put(): its
// pages arrive when they arrive (remote_source.hpp), and what takes the place of take(), put() and make() is its fetch().
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "guest/access_order.hpp"
#include "guest/contents_present.hpp"
#include "guest/guest.hpp"
#include "guest/page_run.hpp"
#include "kernel/error.hpp"
#include "source/mapped_snapshot.hpp"
#include "source/remote_source.hpp"
#include "source/snapshot.hpp"
#include "source/write_page.hpp"

namespace uffd {

struct SourceConfig {
  std::string name = "local";  ///< local: computed; file: `file`, a snapshot; remote: `remote`; mapped: `mapped`
  std::string file;
  bool cold = false;  ///< the file's pages are not in the page cache when the run starts
  RemoteSourceConfig remote;
  std::shared_ptr<const MappedSnapshot> mapped;  ///< of a foreign VMM, which is served from nothing else
};

class Source {
 public:
  /// Throws ConfigError and KernelError: a snapshot that does not fit, a remote source that cannot be reached.
  Source(const Guest& guest, std::byte* alias, const SourceConfig& config, double fill_pause_us = 0.0)
      : guest_(guest), alias_(alias), pause_(Clock::get().from_ns(fill_pause_us * 1000.0)) {
    if (guest.contents().of_file() && config.name != "file")
      throw ConfigError("the guest's contents are a snapshot's: use source=file with that file");
    if (config.name == "file")
      snapshot_ = std::make_unique<Snapshot>(config.file, guest.config().region_bytes, guest.config().page_bytes, config.cold);
    else if (config.name == "remote")
      remote_ = std::make_unique<RemoteSource>(guest, alias, config.remote);
    else if (config.name != "local" && config.mapped == nullptr)
      throw ConfigError("source '" + config.name + "' is unknown; it is one of local, file, remote");
  }

  /// Null unless the source is a remote one.
  RemoteSource* remote() const noexcept { return remote_.get(); }

  bool complete(const PageRun& run) const noexcept { return guest_.complete(run); }

  /// Claims the fetch of every page of the run that no thread fetches yet; bit i: page i is ours to put().
  template <typename Mine>
  void take(const PageRun& run, Mine& mine) const {
    mine.assign(run.count, false);
    for (std::uint32_t i = 0; i < run.count; ++i) mine[i] = guest_.claim_fetch(run.first + i);
  }

  /// Claims the fetch of `page`, and of the run's pages around it up to one that another thread fetches. The part of the run that
  /// will be complete once `mine` (a bit a page of that part) is put; `page` itself may be another thread's.
  PageRun take_around(const PageRun& run, std::uint64_t page, std::vector<bool>& mine) const {
    std::vector<bool> claimed(run.count, false);
    claimed[page - run.first] = guest_.claim_fetch(page);
    const PageRun part = around(run, page, [&](std::uint64_t other) {
      return guest_.complete(other) || (claimed[other - run.first] = guest_.claim_fetch(other));
    });
    const auto begin = claimed.begin() + static_cast<std::ptrdiff_t>(part.first - run.first);
    mine.assign(begin, begin + part.count);
    return part;
  }

  /// Shared memory: fills page by page through the alias. The bit is set after the page's last byte: a page filled through
  /// the alias is visible from its first byte on, so only this bit proves that it is whole.
  void put(std::uint64_t page) const {
    if (pause_ == 0 && written_while_mapped(guest_)) {
      thread_local std::vector<std::byte> whole;
      whole.resize(guest_.config().page_bytes);
      if (read({page, 1}, whole.data()) && write_at_once(guest_, page, whole.data())) guest_.set_complete(page);
      return;
    }
    if (!allocate_page(guest_, alias_, page)) return;
    std::byte* const to = alias_ + page * guest_.config().page_bytes;
    if (pause_ == 0 ? read({page, 1}, to) : in_two_halves(page, to)) guest_.set_complete(page);
  }

  /// A resolve has found the contents of a page gone though they were complete: they are to be fetched again, unless another
  /// thread has found that before. A page whose contents are complete is not fetched, so this cannot cross a put().
  void lost(std::uint64_t page) noexcept {
    const std::lock_guard lock(forgetting_);
    if (alias_ != nullptr && guest_.complete(page) && !contents_there(guest_, alias_, page)) guest_.forget(page);
  }

  /// Anonymous memory: makes a run's contents in a buffer of the caller's; false when that failed, and the run is over.
  bool make(const PageRun& run, std::byte* to) const noexcept { return read(run, to); }

 private:
  // On purpose: a thread that maps the page meanwhile sees the first half and a second one of zeros.
  bool in_two_halves(std::uint64_t page, std::byte* to) const noexcept {
    thread_local std::vector<std::byte> whole;
    const std::size_t half = guest_.config().page_bytes / 2;
    whole.resize(2 * half);
    if (!read({page, 1}, whole.data())) return false;
    std::memcpy(to, whole.data(), half);
    for (const Ticks until = Clock::get().now() + pause_; Clock::get().now() < until && !guest_.stopping();) {
    }
    std::memcpy(to + half, whole.data() + half, half);
    return true;
  }

  bool read(const PageRun& run, std::byte* to) const noexcept {
    if (snapshot_ == nullptr) {
      for (std::uint32_t i = 0; i < run.count; ++i) guest_.contents().fill(run.first + i, to + i * guest_.config().page_bytes);
      return true;
    }
    const int error = snapshot_->read(run, to);
    if (error == 0) return true;
    guest_.stop("the snapshot " + snapshot_->path() + " could not be read at page " + std::to_string(run.first) + ": " +
                std::strerror(error));
    return false;
  }

  const Guest& guest_;
  std::byte* alias_;
  Ticks pause_;
  std::unique_ptr<Snapshot> snapshot_;
  std::unique_ptr<RemoteSource> remote_;
  std::mutex forgetting_;
};

/// The delay added to each fetch, in nanoseconds.
class Delay {
 public:
  Delay(double us, bool exponential, std::uint64_t seed) : mean_ns_(us * 1000.0), exponential_(exponential), random_(seed) {}
  bool none() const noexcept { return mean_ns_ <= 0.0; }
  double next_ns() noexcept { return exponential_ ? -mean_ns_ * std::log(1.0 - random_.unit()) : mean_ns_; }

 private:
  double mean_ns_;
  bool exponential_;
  Random random_;
};

}  // namespace uffd
