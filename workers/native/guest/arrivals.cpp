#include "guest/arrivals.hpp"

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

Ticks Arrivals::gap() noexcept { return static_cast<Ticks>(-std::log1p(-random_.unit()) * static_cast<double>(interval_)); }

}  // namespace uffd
