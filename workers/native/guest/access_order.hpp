// Which page a vCPU touches next, and whether it reads or writes: decided before the clock starts where the order is a
// list (permutation, trace), by a few multiplications where it is not. Deterministic in (seed, vCPU).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace uffd {

struct AccessConfig {
  std::string order = "permutation";
  bool overlap = false;
  double read_share = 1.0;
  std::uint32_t passes = 1;
  std::uint64_t accesses = 0;  ///< per pass; 0: as many as the vCPU's range has pages (trace: its length)
  std::uint64_t stride_pages = 1;
  double zipf_exponent = 1.1;
  std::vector<std::uint32_t> trace;         ///< pages; the lists below are empty, or have an entry for each of them
  std::vector<std::uint64_t> trace_due_ns;  ///< when it is due, after the common start; empty: back to back
  std::vector<std::uint8_t> trace_write;    ///< 1: it writes; empty: by read_share
  std::vector<std::uint16_t> trace_vcpu;    ///< which vCPU makes it, modulo the number of vCPUs; empty: one after the other
  std::uint64_t think_ns = 0;
  double rate_per_s = 0.0;         ///< of an open loop; 0: a closed one
  std::string arrivals = "fixed";  ///< of an open loop: fixed, poisson
  std::uint64_t hold_ns = 0;       ///< the measured phase lasts at least this long, touched or not
};

/// The pages one vCPU works on: its slice of the region, or all of it when vCPUs overlap.
struct PageRange {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};
PageRange range_of(std::uint64_t pages, std::uint32_t vcpu, std::uint32_t vcpus, bool overlap);

/// The accesses of a trace that a vCPU makes, as indices into it: all of them where vCPUs overlap. Throws ConfigError when there
/// is none, or the lists of the trace do not fit each other.
std::vector<std::size_t> share_of_trace(const AccessConfig& config, std::uint32_t vcpu, std::uint32_t vcpus);

/// By page: 1 for each that some vCPU touches in the first round.
std::vector<std::uint8_t> touched_pages(const AccessConfig& config, std::uint64_t pages, std::uint32_t vcpus, std::uint64_t seed);

/// splitmix64's successor step: fast, and good enough to pick pages with.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
  std::uint64_t next() noexcept {
    std::uint64_t x = state_ += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
  }
  /// Uniform in [0, bound), by multiplication.
  std::uint64_t below(std::uint64_t bound) noexcept {
    return static_cast<std::uint64_t>(static_cast<unsigned __int128>(next()) * bound >> 64);
  }
  double unit() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  std::uint64_t state_;
};

/// Zipf over n ranks with exponent s > 0, by rejection-inversion (W. Hormann and G. Derflinger, ACM TOMACS 6(3), 1996):
/// no table, constant expected time. Ranks are scattered over the pages by a permutation, so hot pages are not neighbours.
class Zipf {
 public:
  Zipf(std::uint64_t ranks, double exponent);
  std::uint64_t operator()(Random& random) const noexcept;  ///< 0-based rank

 private:
  double h(double x) const noexcept;
  double h_integral(double x) const noexcept;
  double h_integral_inverse(double x) const noexcept;
  double n_, exponent_, h_x1_, h_n_, s_;
};

class AccessOrder {
 public:
  /// Throws ConfigError: unknown order (with the list), empty trace, a trace page outside the region, bad numbers.
  AccessOrder(const AccessConfig& config, std::uint64_t pages, std::uint32_t vcpu, std::uint32_t vcpus, std::uint64_t seed);

  /// Makes the list where the order has one: on the vCPU's own thread, for a large region takes long to shuffle. Before the
  /// first next_page().
  void prepare();

  std::uint64_t per_pass() const noexcept { return per_pass_; }
  void rewind() noexcept {
    next_ = 0;
    at_ = order_ == Order::list ? list_.data() : nullptr;
    end_ = order_ == Order::list ? list_.data() + list_.size() : nullptr;
  }
  /// Another order of the same kind, from the seed and the round's number (0: the one it was made with). A trace stays as it is.
  void begin_round(std::uint32_t round);
  [[gnu::always_inline]] std::uint64_t next_page() noexcept { return at_ != end_ ? *at_++ : next_of_another(); }
  bool next_is_read() noexcept { return read_threshold_ == ~std::uint64_t{0} || (read_threshold_ != 0 && drawn_or_recorded()); }

 private:
  bool drawn_or_recorded() noexcept {  ///< of the page that next_page() returned last
    return writes_.empty() ? coin_.next() < read_threshold_ : writes_[static_cast<std::size_t>(at_ - list_.data()) - 1] == 0;
  }
  void take_trace(const AccessConfig& config, std::uint64_t pages, std::uint32_t vcpu, std::uint32_t vcpus);

  enum class Order { sequential, list, uniform, zipf, strided };
  std::uint64_t next_of_another() noexcept;  ///< of an order without a list, or of a list at its end
  Order order_ = Order::sequential;
  bool shuffled_ = false;  ///< its list is a permutation of the range
  PageRange range_;
  std::uint64_t per_pass_ = 0;
  std::uint64_t next_ = 0;
  std::uint64_t stride_ = 1;
  std::uint64_t per_lane_ = 1;
  std::vector<std::uint32_t> list_;
  const std::uint32_t *at_ = nullptr, *end_ = nullptr;  ///< of an order that is its list: what is left of it
  std::vector<std::uint8_t> writes_;                    ///< of a trace that says which accesses write
  std::unique_ptr<Zipf> zipf_;
  std::uint64_t seed_;
  Random random_;
  Random coin_;
  std::uint64_t read_threshold_;
};

}  // namespace uffd
