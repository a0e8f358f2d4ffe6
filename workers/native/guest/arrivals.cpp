#include "guest/arrivals.hpp"

#include <algorithm>
#include <cmath>

#include "kernel/error.hpp"

namespace uffd {

namespace {

bool is_poisson(const std::string& name) {
  if (name == "fixed") return false;
  if (name == "poisson") return true;
  throw ConfigError("access.arrivals '" + name + "' is unknown; it is one of fixed, poisson");
}

}  // namespace

Arrivals::Arrivals(const std::string& name, Ticks interval, std::uint32_t vcpu, std::uint32_t vcpus, std::uint64_t seed)
    : interval_(interval),
      first_(interval * vcpu / vcpus),
      poisson_(is_poisson(name) && interval != 0),
      random_(seed ^ (0x8EBC6AF09C88C6E3ull * (vcpu + 1))) {}

Arrivals Arrivals::of(const AccessConfig& access, std::uint32_t vcpu, std::uint32_t vcpus, std::uint64_t seed) {
  const Clock& clock = Clock::get();
  if (access.order != "trace" || access.trace_due_ns.empty())
    return {access.arrivals, access.rate_per_s > 0.0 ? clock.from_ns(1e9 / access.rate_per_s) : 0, vcpu, vcpus, seed};
  std::vector<Ticks> dues;
  for (const std::size_t i : share_of_trace(access, vcpu, vcpus))
    dues.push_back(clock.from_ns(static_cast<double>(access.trace_due_ns[i])));
  // All vCPUs begin a pass together: one mean gap after the last access of the one before.
  const auto last = static_cast<double>(*std::max_element(access.trace_due_ns.begin(), access.trace_due_ns.end()));
  const auto gaps = static_cast<double>(std::max<std::size_t>(access.trace.size() - 1, 1));
  return {std::move(dues), clock.from_ns(last + last / gaps)};
}

Ticks Arrivals::gap() noexcept { return static_cast<Ticks>(-std::log1p(-random_.unit()) * static_cast<double>(interval_)); }

}  // namespace uffd
