// What a remote source, or a snapshot file, holds arrives right.
#include "remote_source.hpp"

using namespace uffd;
using namespace remote_source;

TEST("a remote source's pages are fetched once each, right, for a sleeping and for an exiting vCPU") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait", "no_slow_gup"})
    for (const std::uint32_t connections : {1u, 3u}) {
      SourceServer source(held_memory());
      GuestPlan plan = fed_plan(strategy, source.port(), 4);
      plan.server.source.remote.connections = connections;
      plan.guest.request_pages = 4;
      const auto result = run_guest(plan);
      check_right(*result);
      CHECK_EQUAL(result->source.on_demand, kPages);
      CHECK_EQUAL(result->source.pushed + result->source.twice + result->source.retries, 0u);
      CHECK_EQUAL(result->server[Counter::fetched_pages], kPages);
      CHECK(result->source.bytes >= kPages * 4096);
      CHECK(result->source.rtt_p50_us > 0.0);
      CHECK_EQUAL(source.served().pages, kPages);
      CHECK_EQUAL(source.served().requests, result->source.requests);
    }
}

TEST("anonymous memory gets remote contents through the reader's buffer and the ring's slot") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait", "no_slow_gup"}) {
    SourceServer source(held_memory());
    GuestPlan plan = fed_plan(strategy, source.port(), 4);
    plan.guest.memory = MemoryType::anon;
    plan.guest.request_pages = 4;
    plan.vmm.access.overlap = true;
    check_right(*run_guest(plan));
  }
}

TEST("overlapping vCPUs of two VMM processes share what one of them fetched") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait"}) {
    SourceServer source(held_memory(200));
    GuestPlan plan = fed_plan(strategy, source.port(), 4);
    plan.guest.vcpus_per_vmm = 2;
    plan.vmm.access.overlap = true;
    plan.guest.request_pages = 8;
    const auto result = run_guest(plan);
    check_right(*result, 2 * kPages);
    CHECK_EQUAL(result->source.on_demand, kPages);
  }
}

TEST("pushed pages are right, and every page comes either pushed or on demand") {
  for (const char* strategy : {"uffd_wait", "no_slow_gup"}) {
    SourceServer source(held_memory());
    GuestPlan plan = fed_plan(strategy, source.port(), 4);
    plan.server.source.remote.push = true;
    plan.server.source.remote.batch_pages = 8;
    plan.server.source.remote.push_mib_per_s = 40;  // slow enough that vCPUs meet pages that are not here
    plan.vmm.access.rate_per_s = 4000;
    const auto result = run_guest(plan);
    check_right(*result);
    CHECK(result->source.pushed > 0);
    CHECK(result->source.on_demand > 0);
    CHECK_EQUAL(result->source.pushed + result->source.on_demand, kPages);
  }
}

TEST("an emulated round-trip time is at least kept, and many faults are under way in it") {
  SourceServerConfig config = held_memory(3000);
  config.region_bytes = 256 * 4096;
  SourceServer source(config);
  GuestPlan plan = fed_plan("uffd_wait", source.port(), 16);
  plan.guest.region_bytes = config.region_bytes;
  const auto result = run_guest(plan);
  check_right(*result, 256);
  CHECK(result->source.rtt_p50_us >= 3000.0);
  std::uint64_t first = ~std::uint64_t{0}, last = 0, asleep = 0;
  for (const auto& vcpu : result->vmms[0]->vcpus())
    for (std::uint64_t i = 0; i < vcpu->recorded(); ++i) {
      const FaultRecord& fault = vcpu->records()[i];
      first = std::min(first, fault.raised);
      last = std::max(last, fault.resumed);
      asleep += fault.resumed - fault.raised;
    }
  CHECK(asleep > 4 * (last - first));  // that many faults under way at a time, on average; one after the other it is one
}

TEST("a source that does not hold the guest's memory refuses, and is quoted") {
  SourceServerConfig other = held_memory();
  other.seed = 5;
  SourceServer source(other);
  std::string said;
  try {
    run_guest(fed_plan("uffd_wait", source.port()));
  } catch (const ConfigError& error) {
    said = error.what();
  }
  CHECK(said.find("the source at 127.0.0.1:") == 0);
  CHECK(said.find("it refused: it holds contents of seed 5 and was asked for 77") != std::string::npos);
  for (int look = 0; look < 1000 && source.served().refused == 0; ++look)  // it counts after it has said so
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK_EQUAL(source.served().refused, 1u);
}

TEST("contents that are wrong at the source make the run's contents wrong: nothing hides it") {
  SourceServer source(held_memory());
  source.memory()[500 * 4096 + 1234] ^= std::byte{1};
  const auto result = run_guest(fed_plan("uffd_wait", source.port()));
  CHECK_EQUAL(result->stop_reason, "");
  CHECK(result->wrong_words >= 1);
}

TEST("a snapshot file is read page by page, warm and cold, for shared and for anonymous memory") {
  char folder[] = "/var/tmp/uffd-loadgen-test-XXXXXX";  // a disk's file system: tmpfs cannot be cold
  CHECK(::mkdtemp(folder) != nullptr);
  const std::string path = std::string(folder) + "/snapshot";
  write_snapshot(path, kPages * 4096, 4096, kSeed);
  check_snapshot(path, kPages * 4096, 4096, kSeed);
  for (const char* strategy : {"uffd_wait", "no_uffd_wait", "no_slow_gup"})
    for (const MemoryType type : {MemoryType::shmem, MemoryType::anon})
      for (const bool cold : {false, true}) {
        GuestPlan plan = fed_plan(strategy, 0);
        plan.guest.memory = type;
        plan.guest.request_pages = 4;
        plan.server.source.name = "file";
        plan.server.source.file = path;
        plan.server.source.cold = cold;
        check_right(*run_guest(plan));
      }
  std::string said;
  const auto refused = [&said](const auto& body) {
    try {
      body();
      said = "nothing";
    } catch (const ConfigError& error) {
      said = error.what();
    }
  };
  refused([&] { check_snapshot(path, kPages * 4096, 4096, kSeed + 1); });
  CHECK(said.find("does not hold the contents of seed 78 (page 0, word 0 differs)") != std::string::npos);
  refused([&] { check_snapshot(path, 2 * kPages * 4096, 4096, kSeed); });
  CHECK(said.find("has 4194304 bytes and the region has 8388608") != std::string::npos);
  ::unlink(path.c_str());
  ::rmdir(folder);
}
