#include <algorithm>
#include <set>

#include "check.hpp"
#include "guest/access_order.hpp"
#include "kernel/error.hpp"

using uffd::AccessConfig;
using uffd::AccessOrder;

namespace {

std::vector<std::uint64_t> pass(const AccessConfig& config, std::uint64_t pages, std::uint32_t vcpu, std::uint32_t vcpus) {
  AccessOrder order(config, pages, vcpu, vcpus, 1);
  order.prepare();
  std::vector<std::uint64_t> touched;
  for (std::uint64_t i = 0; i < order.per_pass(); ++i) touched.push_back(order.next_page());
  return touched;
}

}  // namespace

TEST("partitioned vCPUs touch every page of the region exactly once between them") {
  for (const char* name : {"sequential", "permutation", "strided"}) {
    AccessConfig config;
    config.order = name;
    config.stride_pages = 7;
    std::set<std::uint64_t> seen;
    std::uint64_t accesses = 0;
    for (std::uint32_t vcpu = 0; vcpu < 3; ++vcpu)
      for (const std::uint64_t page : pass(config, 1000, vcpu, 3)) {
        seen.insert(page);
        ++accesses;
      }
    CHECK_EQUAL(accesses, 1000u);
    CHECK_EQUAL(seen.size(), 1000u);
    CHECK_EQUAL(*seen.rbegin(), 999u);
  }
}

TEST("overlapping vCPUs each touch the whole region, in orders of their own") {
  AccessConfig config;
  config.overlap = true;
  const auto first = pass(config, 500, 0, 2);
  const auto second = pass(config, 500, 1, 2);
  CHECK_EQUAL(std::set(first.begin(), first.end()).size(), 500u);
  CHECK_EQUAL(std::set(second.begin(), second.end()).size(), 500u);
  CHECK(first != second);
}

TEST("zipf touches its hottest page far more often than uniform does") {
  const auto hottest = [](const char* name) {
    AccessConfig config;
    config.order = name;
    config.accesses = 100'000;
    std::vector<std::uint64_t> counts(1000);
    for (const std::uint64_t page : pass(config, 1000, 0, 1)) ++counts.at(page);
    return *std::max_element(counts.begin(), counts.end());
  };
  // The share of rank 1 at exponent 1.1 over 1000 ranks is 1 / H(1000, 1.1) = 0.180.
  CHECK(hottest("zipf") > 16'000 && hottest("zipf") < 20'000);
  CHECK(hottest("uniform") < 200);
}

TEST("a trace is followed to the letter, and shared out between partitioned vCPUs") {
  AccessConfig config;
  config.order = "trace";
  config.trace = {5, 3, 5, 9};
  CHECK(pass(config, 10, 0, 1) == (std::vector<std::uint64_t>{5, 3, 5, 9}));
  CHECK(pass(config, 10, 1, 2) == (std::vector<std::uint64_t>{3, 9}));
}

TEST("a trace page outside the region, an empty trace and an unknown order are refused by name") {
  const auto refusal = [](AccessConfig config) {
    try {
      AccessOrder(config, 10, 0, 1, 1);
    } catch (const uffd::ConfigError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  AccessConfig config;
  config.order = "trace";
  CHECK(refusal(config).find("needs a trace") != std::string::npos);
  config.trace = {10};
  CHECK(refusal(config).find("touches page 10 of a region of 10 pages") != std::string::npos);
  config.order = "sideways";
  CHECK(refusal(config).find("one of sequential, permutation, uniform, zipf, strided, trace") != std::string::npos);
}

TEST("a trace's writes and vCPUs are those recorded, its vCPUs folded over fewer") {
  AccessConfig config;
  config.order = "trace";
  config.trace = {5, 3, 8, 9};
  config.trace_write = {0, 1, 1, 0};
  config.trace_vcpu = {0, 2, 3, 1};
  AccessOrder order(config, 10, 0, 2, 1);
  for (const auto& [page, read] : {std::pair{5u, true}, {3u, false}, {5u, true}}) {
    CHECK_EQUAL(order.next_page(), page);
    CHECK_EQUAL(order.next_is_read(), read);
  }
  CHECK(pass(config, 10, 1, 2) == (std::vector<std::uint64_t>{8, 9}));
  CHECK(uffd::share_of_trace(config, 2, 4) == (std::vector<std::size_t>{1}));
}

TEST("a trace without an access of a vCPU, or with lists that do not fit, is refused") {
  AccessConfig config;
  config.order = "trace";
  config.trace = {1, 2};
  config.trace_vcpu = {0, 0};
  const auto refusal = [&config] {
    try {
      AccessOrder(config, 10, 1, 2, 1);
    } catch (const uffd::ConfigError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK_EQUAL(refusal(), "the trace has no access of vCPU 1: use fewer vCPUs");
  config.trace_vcpu = {0, 1, 1};
  CHECK_EQUAL(refusal(), "the trace's times, writes or vCPUs are not as many as its pages");
}
