// Memory on NUMA nodes: on one node there is no more to be seen than that it is asked for and found there.
#include <sched.h>

#include <numeric>

#include "check.hpp"
#include "disturbed_guest.hpp"
#include "kernel/error.hpp"
#include "kernel/numa.hpp"
#include "kernel/placement.hpp"

using namespace uffd;

namespace {

constexpr std::uint64_t kPlacedPages = 64;

std::vector<std::uint64_t> filled(const NumaPolicy& policy, bool of_memfd) {
  const Descriptor memfd = make_memfd("uffd-loadgen-numa", kPlacedPages * 4096, false);
  {
    const Mapping first = Mapping::shared(memfd.get(), kPlacedPages * 4096);
    if (of_memfd) place_memory(first, policy);
  }
  const Mapping mapping =
      of_memfd ? Mapping::shared(memfd.get(), kPlacedPages * 4096) : Mapping::anonymous(kPlacedPages * 4096, 4096);
  if (!of_memfd) place_memory(mapping, policy);
  for (std::uint64_t page = 0; page < kPlacedPages; ++page) mapping.data()[page * 4096] = std::byte{1};
  return pages_on_nodes(mapping.data(), kPlacedPages, 4096);
}

void needs_two_nodes() {
  if (nodes_with_memory().size() < 2) throw check::Skipped("one NUMA node");
}

}  // namespace

TEST("memory is placed on the node that is named, in every mapping of a memfd and in anonymous memory") {
  if (nodes_with_memory().empty()) throw check::Skipped("this kernel has no NUMA nodes");
  for (const bool of_memfd : {true, false})
    for (const int node : nodes_with_memory()) {
      const auto on = filled({NumaMode::node, static_cast<std::uint32_t>(node)}, of_memfd);
      CHECK_EQUAL(on.size(), static_cast<std::size_t>(node) + 1);
      CHECK_EQUAL(on.back(), kPlacedPages);
    }
}

TEST("interleaved memory is on every node alike, and local memory where its thread runs") {
  needs_two_nodes();
  const auto nodes = nodes_with_memory();
  for (const bool of_memfd : {true, false}) {
    const auto on = filled({NumaMode::interleave, 0}, of_memfd);
    for (const int node : nodes) CHECK_EQUAL(on[static_cast<std::size_t>(node)], kPlacedPages / nodes.size());
    unsigned cpu = 0, here = 0;
    ::getcpu(&cpu, &here);
    pin_this_thread({static_cast<int>(cpu)});
    ::getcpu(&cpu, &here);
    CHECK_EQUAL(filled({NumaMode::local, 0}, of_memfd).at(here), kPlacedPages);
  }
  CpuList every(static_cast<std::size_t>(::sysconf(_SC_NPROCESSORS_CONF)));
  std::iota(every.begin(), every.end(), 0);
  pin_this_thread(every);
}

TEST("a page that is not mapped is on no node, and a large region is looked at in evenly spread pages") {
  const Mapping mapping = Mapping::anonymous(2 * kMostPagesLookedAt * 4096, 4096);
  mapping.advise(MADV_NOHUGEPAGE, "madvise MADV_NOHUGEPAGE");
  CHECK_EQUAL(pages_on_nodes(mapping.data(), 2 * kMostPagesLookedAt, 4096).size(), 0u);
  mapping.data()[0] = mapping.data()[4096] = mapping.data()[2 * 4096] = std::byte{1};
  const auto on = pages_on_nodes(mapping.data(), 2 * kMostPagesLookedAt, 4096);
  CHECK_EQUAL(std::accumulate(on.begin(), on.end(), std::uint64_t{0}), 2u);  // pages 0 and 2
}

TEST("pages are counted on their nodes in each of a mapping's regions, and not in the gaps between them") {
  const std::vector<int> nodes = nodes_with_memory();
  if (nodes.empty()) throw check::Skipped("this kernel has no NUMA nodes");
  GuestPlan plan;
  plan.vmm.strategy = "null";
  plan.guest.region_bytes = 100 * 4096;
  plan.guest.regions = 3;
  plan.guest.numa = {NumaMode::node, static_cast<std::uint32_t>(nodes.back())};
  const auto result = run_guest(plan);
  CHECK_EQUAL(result->stop_reason, "");
  CHECK_EQUAL(result->verified, 100u);
  const std::vector<std::uint64_t> on = result->vmms[0]->page_nodes();
  CHECK_EQUAL(on.size(), static_cast<std::size_t>(nodes.back()) + 1);
  CHECK_EQUAL(on.back(), 100u);
}

TEST("a policy in words is one of four, and a list of the kernel's names its numbers") {
  CHECK(numa_policy("default").mode == NumaMode::inherit);
  CHECK(numa_policy("interleave").mode == NumaMode::interleave);
  CHECK_EQUAL(numa_policy("node:3").node, 3u);
  for (const char* wrong : {"node:", "node:x", "node:-1", "node:4096", "nodes", ""}) {
    std::string said;
    try {
      numa_policy(wrong);
    } catch (const ConfigError& error) {
      said = error.what();
    }
    CHECK(said.find("use default, local, interleave or node:N") != std::string::npos);
  }
  CHECK(parse_kernel_list("0-2,5") == (std::vector<int>{0, 1, 2, 5}));
  CHECK(parse_kernel_list("").empty());
}

TEST("a mask of CPUs is as long as its last CPU asks for") {
  const auto mask = cpu_mask({0, 63, 64, 1024, 5000});
  CHECK_EQUAL(mask.size(), 5000u / 64 + 1);
  CHECK_EQUAL(mask[0], 1ul | 1ul << 63);
  CHECK_EQUAL(mask[1], 1ul);
  CHECK_EQUAL(mask[16], 1ul);
  CHECK_EQUAL(mask[78], 1ul << 8);
  CpusSeen seen;
  for (const std::uint16_t cpu : {0, 64, 1500, 8191}) seen.add(cpu);
  CHECK(seen.list() == (CpuList{0, 64, 1500, 8191}));
}

TEST("a mask of CPUs reaches each CPU of the machine: what is pinned there runs there, and its stamp names it") {
  CpuList cpus, stamped;
  std::thread pinned([&] {
    const long configured = ::sysconf(_SC_NPROCESSORS_CONF);
    for (int cpu = 0; cpu < configured; ++cpu) {
      try {
        pin_this_thread({cpu});
      } catch (const KernelError&) {
        continue;  // not ours to use
      }
      std::uint16_t here = 0;
      Clock::get().now_and_cpu(here);
      cpus.push_back(cpu);
      stamped.push_back(here);
    }
  });
  pinned.join();
  CHECK(!cpus.empty());
  CHECK(stamped == cpus);
  GuestPlan plan;
  plan.vmm.strategy = "no_slow_gup";
  plan.vmm.vcpu_cpus = {{cpus.back()}, {cpus.front()}};
  const auto result = run_guest(plan);
  check_ended_well(*result);
  CHECK(result->vmms[0]->vcpus()[0]->cpus_seen() == CpuList{cpus.back()});
  CHECK(result->vmms[0]->vcpus()[1]->cpus_seen() == CpuList{cpus.front()});
}

TEST("a mask of CPUs goes beyond those of a fixed size, and those that are not there are left out") {
  std::string said;
  std::vector<std::size_t> left;
  std::thread pinned([&] {
    const int here = ::sched_getcpu();
    pin_this_thread({here, 5000});
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof set, &set) == 0) left = {static_cast<std::size_t>(CPU_COUNT(&set))};
    try {
      pin_this_thread({5000});
    } catch (const KernelError& error) {
      said = error.what();
    }
  });
  pinned.join();
  CHECK(left == std::vector<std::size_t>{1});
  CHECK(said.find("sched_setaffinity: ") == 0);
}

TEST("the migrator moves pages to and fro between nodes, and what it moved was moved") {
  needs_two_nodes();
  for (const char* strategy : {"uffd_wait", "no_uffd_wait", "no_slow_gup"}) {
    GuestPlan plan = disturbed(strategy);
    plan.vmm.disturb.migrator = {.rate_per_s = 500.0 / static_cast<double>(slowness())};
    const auto result = run_guest(plan);
    check_ended_well(*result);
    CHECK((*result)[Counter::pages_migrated] > 0);
    CHECK_EQUAL((*result)[Counter::compactions], 0u);
    CHECK_EQUAL((*result)[Counter::memory_errors], 0u);
  }
}
