#include "guest/access_order.hpp"

#include <cmath>
#include <numeric>
#include <utility>

#include "kernel/error.hpp"

namespace uffd {

namespace {

void shuffle(std::vector<std::uint32_t>& list, Random& random) {
  for (std::uint64_t i = list.size(); i > 1; --i) std::swap(list[i - 1], list[random.below(i)]);
}

std::uint64_t threshold(double share) {
  if (share <= 0.0) return 0;
  if (share >= 1.0) return ~std::uint64_t{0};
  return static_cast<std::uint64_t>(std::ldexp(share, 64));
}

}  // namespace

PageRange range_of(std::uint64_t pages, std::uint32_t vcpu, std::uint32_t vcpus, bool overlap) {
  if (overlap) return {0, pages};
  const std::uint64_t first = pages * vcpu / vcpus;
  return {first, pages * (vcpu + 1) / vcpus - first};
}

std::vector<std::size_t> share_of_trace(const AccessConfig& config, std::uint32_t vcpu, std::uint32_t vcpus) {
  const std::size_t count = config.trace.size();
  if (count == 0) throw ConfigError("access.order=trace needs a trace of page numbers");
  for (const std::size_t beside : {config.trace_due_ns.size(), config.trace_write.size(), config.trace_vcpu.size()})
    if (beside != 0 && beside != count) throw ConfigError("the trace's times, writes or vCPUs are not as many as its pages");
  std::vector<std::size_t> mine;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t whose = config.trace_vcpu.empty() ? i : config.trace_vcpu[i];
    if (config.overlap || whose % vcpus == vcpu) mine.push_back(i);
  }
  if (mine.empty())
    throw ConfigError(config.trace_vcpu.empty()
                          ? "the trace is shorter than there are vCPUs"
                          : "the trace has no access of vCPU " + std::to_string(vcpu) + ": use fewer vCPUs");
  return mine;
}

Zipf::Zipf(std::uint64_t ranks, double exponent) : n_(static_cast<double>(ranks)), exponent_(exponent) {
  h_x1_ = h_integral(1.5) - 1.0;
  h_n_ = h_integral(n_ + 0.5);
  s_ = 2.0 - h_integral_inverse(h_integral(2.5) - h(2.0));
}

double Zipf::h(double x) const noexcept { return std::exp(-exponent_ * std::log(x)); }

double Zipf::h_integral(double x) const noexcept {
  const double log_x = std::log(x);
  const double t = (1.0 - exponent_) * log_x;
  const double ratio = std::abs(t) > 1e-8 ? std::expm1(t) / t : 1.0 + t * 0.5 * (1.0 + t / 3.0);
  return ratio * log_x;
}

double Zipf::h_integral_inverse(double x) const noexcept {
  double t = x * (1.0 - exponent_);
  if (t < -1.0) t = -1.0;
  const double ratio = std::abs(t) > 1e-8 ? std::log1p(t) / t : 1.0 - t * (0.5 - t / 3.0);
  return std::exp(ratio * x);
}

std::uint64_t Zipf::operator()(Random& random) const noexcept {
  while (true) {
    const double u = h_n_ + random.unit() * (h_x1_ - h_n_);
    const double x = h_integral_inverse(u);
    double k = std::floor(x + 0.5);
    if (k < 1.0) k = 1.0;
    if (k > n_) k = n_;
    if (k - x <= s_ || u >= h_integral(k + 0.5) - h(k)) return static_cast<std::uint64_t>(k) - 1;
  }
}

AccessOrder::AccessOrder(const AccessConfig& config, std::uint64_t pages, std::uint32_t vcpu, std::uint32_t vcpus,
                         std::uint64_t seed)
    : range_(range_of(pages, vcpu, vcpus, config.overlap)),
      stride_(config.stride_pages),
      seed_(seed ^ (0xA0761D6478BD642Full * (vcpu + 1))),
      random_(seed_),
      coin_(seed ^ (0xE7037ED1A0B428DBull * (vcpu + 1))),
      read_threshold_(threshold(config.read_share)) {
  if (config.read_share < 0.0 || config.read_share > 1.0) throw ConfigError("access.read_share must be between 0 and 1");
  if (config.stride_pages == 0) throw ConfigError("access.stride_pages must be at least 1");
  if (range_.count == 0) throw ConfigError("the region has fewer pages than there are vCPUs");
  per_pass_ = config.accesses != 0 ? config.accesses : range_.count;

  if (config.order == "sequential") {
    order_ = Order::sequential;
  } else if (config.order == "strided") {
    order_ = Order::strided;
    if (stride_ > range_.count) stride_ = range_.count;
    per_lane_ = (range_.count + stride_ - 1) / stride_;
  } else if (config.order == "uniform") {
    order_ = Order::uniform;
  } else if (config.order == "permutation" || config.order == "zipf") {
    shuffled_ = true;
    order_ = Order::list;
    if (config.order == "zipf") {
      if (!(config.zipf_exponent > 0.0)) throw ConfigError("access.zipf_exponent must be positive");
      order_ = Order::zipf;
      zipf_ = std::make_unique<Zipf>(range_.count, config.zipf_exponent);
    }
  } else if (config.order == "trace") {
    take_trace(config, pages, vcpu, vcpus);
  } else if (config.order == "none") {
    per_pass_ = 0;  // the control run: no page is touched
  } else {
    throw ConfigError("access.order '" + config.order +
                      "' is unknown; it is one of sequential, permutation, uniform, zipf, strided, trace, none");
  }
}

void AccessOrder::take_trace(const AccessConfig& config, std::uint64_t pages, std::uint32_t vcpu, std::uint32_t vcpus) {
  for (const std::uint32_t page : config.trace)
    if (page >= pages)
      throw ConfigError("the trace touches page " + std::to_string(page) + " of a region of " + std::to_string(pages) + " pages");
  for (const std::size_t i : share_of_trace(config, vcpu, vcpus)) {
    list_.push_back(config.trace[i]);
    if (!config.trace_write.empty()) writes_.push_back(config.trace_write[i]);
  }
  if (!writes_.empty()) read_threshold_ = 1;  // neither all nor none: what was recorded counts
  order_ = Order::list;
  per_pass_ = config.accesses != 0 ? config.accesses : list_.size();
  rewind();
}

void AccessOrder::prepare() {
  if (!shuffled_ || !list_.empty()) return;
  list_.resize(range_.count);
  std::iota(list_.begin(), list_.end(), static_cast<std::uint32_t>(range_.first));
  shuffle(list_, random_);
  rewind();
}

void AccessOrder::begin_round(std::uint32_t round) {
  rewind();
  random_ = Random(seed_ ^ (0x8EBC6AF09C88C6E3ull * round));
  if (shuffled_) shuffle(list_, random_);
}

std::vector<std::uint8_t> touched_pages(const AccessConfig& config, std::uint64_t pages, std::uint32_t vcpus,
                                        std::uint64_t seed) {
  std::vector<std::uint8_t> touched(pages);
  for (std::uint32_t vcpu = 0; vcpu < vcpus; ++vcpu) {
    AccessOrder order(config, pages, vcpu, vcpus, seed);
    order.prepare();
    for (std::uint32_t pass = 0; pass < config.passes; ++pass) {
      order.rewind();
      for (std::uint64_t left = order.per_pass(); left != 0; --left) touched[order.next_page()] = 1;
    }
  }
  return touched;
}

[[gnu::hot]] std::uint64_t AccessOrder::next_of_another() noexcept {
  if (order_ == Order::list) {
    rewind();
    return *at_++;
  }
  const std::uint64_t i = next_++;
  switch (order_) {
    case Order::sequential: return range_.first + i % range_.count;
    case Order::strided: {
      // Lane by lane: 0, s, 2s, ..., then 1, s + 1, ...; every page once in range_.count accesses.
      std::uint64_t k = i % (per_lane_ * stride_);
      std::uint64_t page = k % per_lane_ * stride_ + k / per_lane_;
      while (page >= range_.count) {
        k = next_++ % (per_lane_ * stride_);
        page = k % per_lane_ * stride_ + k / per_lane_;
      }
      return range_.first + page;
    }
    case Order::uniform: return range_.first + random_.below(range_.count);
    case Order::zipf: return list_[(*zipf_)(random_)];
    case Order::list: break;
  }
  return range_.first;
}

}  // namespace uffd
