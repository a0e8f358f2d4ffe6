// Where contents come from: here, computed. Fetching is in two steps, so that a delay between them holds nobody up:
// take() says who is to fetch a run's pages, put() writes them through the alias and declares them complete.
#pragma once

#include <cmath>
#include <cstdint>

#include "access_order.hpp"
#include "guest.hpp"
#include "resolver.hpp"

namespace uffd {

class Source {
 public:
  Source(const Guest& guest, std::byte* alias) : guest_(guest), alias_(alias) {}

  bool complete(const PageRun& run) const noexcept {
    for (std::uint32_t i = 0; i < run.count; ++i)
      if (!guest_.complete(run.first + i)) return false;
    return true;
  }

  /// Claims the fetch of every page of the run that nobody fetches yet; bit i: page i is ours to put().
  template <typename Mine>
  void take(const PageRun& run, Mine& mine) const {
    mine.assign(run.count, false);
    for (std::uint32_t i = 0; i < run.count; ++i) mine[i] = guest_.claim_fetch(run.first + i);
  }

  /// Shared memory: fills page by page through the alias. The bit is set after the page's last byte: a page filled through
  /// the alias is visible from its first byte on, so nothing but this bit says that it is whole.
  void put(std::uint64_t page) const noexcept {
    guest_.contents().fill(page, alias_ + page * guest_.config().page_bytes);
    guest_.set_complete(page);
  }

  /// Anonymous memory: makes a run's contents in a buffer of the caller's.
  void make(const PageRun& run, std::byte* to) const noexcept {
    for (std::uint32_t i = 0; i < run.count; ++i)
      guest_.contents().fill(run.first + i, to + i * guest_.config().page_bytes);
  }

 private:
  const Guest& guest_;
  std::byte* alias_;
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
