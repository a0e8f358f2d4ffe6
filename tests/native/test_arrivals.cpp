#include <vector>

#include "check.hpp"
#include "guest/arrivals.hpp"
#include "kernel/error.hpp"

using uffd::Arrivals;
using uffd::Ticks;

namespace {

std::vector<Ticks> dues(const char* name, Ticks interval, std::uint32_t vcpu, std::uint32_t vcpus, std::size_t count,
                        std::uint64_t seed = 1) {
  Arrivals arrivals(name, interval, vcpu, vcpus, seed);
  arrivals.begin(1'000'000);
  std::vector<Ticks> found;
  for (; found.size() < count; arrivals.advance()) found.push_back(arrivals.due());
  return found;
}

}  // namespace

TEST("fixed arrivals of vCPUs are spread over the interval by their number") {
  CHECK(dues("fixed", 800, 0, 4, 3) == (std::vector<Ticks>{1'000'000, 1'000'800, 1'001'600}));
  CHECK(dues("fixed", 800, 3, 4, 3) == (std::vector<Ticks>{1'000'600, 1'001'400, 1'002'200}));
}

TEST("poisson arrivals have exponential gaps of the interval's mean, each vCPU its own, and come again with the seed") {
  constexpr std::size_t kCount = 20'000;
  const std::vector<Ticks> one = dues("poisson", 10'000, 0, 2, kCount);
  CHECK(one == dues("poisson", 10'000, 0, 2, kCount));
  CHECK(one != dues("poisson", 10'000, 1, 2, kCount));
  CHECK(one != dues("poisson", 10'000, 0, 2, kCount, 2));
  const double mean = static_cast<double>(one.back() - one.front()) / (kCount - 1);
  CHECK(mean > 9'700 && mean < 10'300);
  std::size_t above = 0;  // of an exponential distribution a share of 1/e is longer than the mean
  for (std::size_t i = 1; i < one.size(); ++i) above += one[i] - one[i - 1] > 10'000;
  CHECK(above > kCount * 35 / 100 && above < kCount * 39 / 100);
}

TEST("arrivals of another name are refused with the list, and a closed loop has none") {
  std::string said;
  try {
    Arrivals("bursts", 100, 0, 1, 1);
  } catch (const uffd::ConfigError& error) {
    said = error.what();
  }
  CHECK_EQUAL(said, "access.arrivals 'bursts' is unknown; it is one of fixed, poisson");
  CHECK(!Arrivals("poisson", 0, 0, 1, 1).open_loop());
  CHECK(Arrivals("fixed", 5, 0, 1, 1).open_loop());
}

TEST("a trace's arrivals are due where it says, of each vCPU its own, and a pass later again") {
  uffd::AccessConfig access;
  access.order = "trace";
  access.trace = {1, 2, 3, 4};
  access.trace_due_ns = {0, 1'000'000, 4'000'000, 6'000'000};
  const auto in_us = [&access](std::uint32_t vcpu, std::size_t count) {
    Arrivals arrivals = Arrivals::of(access, vcpu, 2, 1);
    CHECK(arrivals.open_loop());
    arrivals.begin(0);
    std::vector<std::uint64_t> found;
    for (; found.size() < count; arrivals.advance()) found.push_back((uffd::Clock::get().to_ns(arrivals.due()) + 500) / 1000);
    return found;
  };
  CHECK(in_us(0, 3) == (std::vector<std::uint64_t>{0, 4000, 8000}));
  CHECK(in_us(1, 4) == (std::vector<std::uint64_t>{1000, 6000, 9000, 14000}));
  access.trace_due_ns.clear();
  CHECK(!Arrivals::of(access, 0, 2, 1).open_loop());
}
