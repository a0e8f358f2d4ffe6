// Page servers in processes of their own, killed at random moments, each one's place taken by the next.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <random>

#include "check.hpp"
#include "kernel/vocabulary.hpp"
#include "source/source_server.hpp"
#include "whole_guest.hpp"

using namespace uffd;

namespace {

/// Page servers forked before any thread was started, each waiting for its turn.
class Servers {
 public:
  Servers(const Guest& guest, const PageServerConfig& config, const std::vector<std::unique_ptr<Vmm>>& vmms, int count) {
    for (int number = 0; number < count; ++number) {
      std::array<int, 2> turn{};
      CHECK(::pipe(turn.data()) == 0);
      const pid_t pid = ::fork();
      CHECK(pid >= 0);
      if (pid == 0) {
        ::close(turn[1]);
        for (const auto& [other, end] : waiting_) ::close(end);
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        char begin = 0;
        if (::read(turn[0], &begin, 1) == 1) serve(guest, config, vmms, number > 0);
        ::_exit(0);
      }
      ::close(turn[0]);
      waiting_.emplace_back(pid, turn[1]);
    }
  }
  ~Servers() {
    for (const auto& [pid, end] : waiting_) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
      ::close(end);
    }
  }
  void begin() { CHECK(::write(waiting_.front().second, "x", 1) == 1); }
  void kill_current() {
    const auto [pid, end] = waiting_.front();
    waiting_.erase(waiting_.begin());
    ::kill(pid, SIGKILL);
    int status = 0;
    CHECK(::waitpid(pid, &status, 0) == pid);
    ::close(end);
    CHECK(WIFSIGNALED(status));  // it did not end by itself
  }
  std::size_t left() const { return waiting_.size(); }

 private:
  static void serve(const Guest& guest, PageServerConfig config, const std::vector<std::unique_ptr<Vmm>>& vmms, bool successor) {
    try {
      config.successor = successor;
      PageServer server(guest, config);
      for (std::size_t i = 0; i < vmms.size(); ++i)
        for (std::size_t k = 0; k < vmms[i]->userfaultfds().size(); ++k) {
          const Shard& shard = vmms[i]->shards()[k];
          const std::uint64_t page = guest.config().page_bytes;
          server.add(vmms[i]->userfaultfds()[k]->fd(), {{shard.address, shard.pages * page, shard.first_page * page, page}},
                     static_cast<int>(i), vmms[i]->record_fd(), vmms[i]->faults_fd());
        }
      server.serve();
    } catch (const std::exception& error) {
      guest.stop(std::string("a page server: ") + error.what());
    }
  }

  std::vector<std::pair<pid_t, int>> waiting_;
};

struct Case {
  const char* strategy;
  MemoryType memory;
  Kind kind;
  std::uint32_t around = 1;
  bool remote = false;
};

std::vector<std::unique_ptr<Vmm>> vmms_of(const Guest& guest, const Case& test) {
  const GuestConfig& asked = guest.config();
  std::vector<std::unique_ptr<Vmm>> vmms;
  for (std::uint32_t i = 0; i < asked.vcpus / asked.vcpus_per_vmm; ++i) {
    VmmConfig vmm{.vmm = i, .first_vcpu = i * asked.vcpus_per_vmm, .vcpus = asked.vcpus_per_vmm, .strategy = test.strategy};
    vmm.options["fault_around_pages"] = test.around;
    vmm.watchdog_s = 20.0;
    vmm.record_capacity = guest.pages();
    vmm.access.overlap = true;
    // Fewer pages on a slower machine, each for longer: the vCPUs are not done before the first kill.
    vmm.access.think_ns = 10'000 * slowness() * slowness();
    vmms.push_back(std::make_unique<Vmm>(guest, vmm));
  }
  return vmms;
}

/// Every page is right in every VMM process, was accessed by every vCPU and is counted once.
void check_whole(const Guest& guest, const std::vector<std::unique_ptr<Vmm>>& vmms) {
  std::uint64_t resolved = 0, first = 0;
  for (const auto& vmm : vmms) {
    vmm->reclaim();
    vmm->finish();
    const Verified verified = vmm->verify();
    CHECK_EQUAL(verified.wrong_words, 0u);
    CHECK_EQUAL(verified.pages, guest.pages());
    CHECK_EQUAL(vmm->page_states()[static_cast<std::size_t>(PageState::in_flight)], 0u);
    for (const auto& vcpu : vmm->vcpus()) {
      CHECK_EQUAL(vcpu->wrong_words(), 0u);
      CHECK_EQUAL(vcpu->failure(), "");
      CHECK_EQUAL(vcpu->state().accesses.load(), guest.pages());
      first += vcpu->state().first_by_vcpu + vcpu->state().first_by_reader;
      resolved += vcpu->state().resolved_by_vcpu + vcpu->state().resolved_by_reader;
    }
  }
  CHECK_EQUAL(resolved, guest.pages() * vmms.size());
  CHECK(first <= guest.pages() && (vmms.size() > 1 || first == guest.pages()));
}

std::uint32_t finished_vcpus(const Guest& guest) {
  std::uint32_t finished = 0;
  for (std::uint32_t i = 0; i < guest.config().vcpus; ++i) finished += guest.vcpu(i).finished.load() != 0;
  return finished;
}

/// Of all mappings, so far.
std::uint64_t resolved_pages(const Guest& guest) {
  std::uint64_t pages = 0;
  for (std::uint32_t i = 0; i < guest.config().vcpus; ++i)
    pages += guest.vcpu(i).resolved_by_vcpu + guest.vcpu(i).resolved_by_reader;
  return pages;
}

void kill_again_and_again(const Case& test, unsigned seed) {
  constexpr int kServers = 6;
  const std::uint64_t pages = std::max<std::uint64_t>(2048 / slowness(), 256);
  GuestConfig asked{.region_bytes = pages * 4096, .vcpus = 4, .vcpus_per_vmm = 2, .seed = seed, .contents_seed = seed};
  asked.memory = test.memory;
  asked.request_pages = test.around;
  if (test.memory == MemoryType::anon) asked.vcpus_per_vmm = asked.vcpus;
  const std::uint32_t vmm_count = asked.vcpus / asked.vcpus_per_vmm;
  PageServerConfig config{.readers = vmm_count, .fault_around_pages = test.around};
  asked.rings = vmm_count;
  asked.server_threads = config.readers + asked.rings + 1;
  const Guest guest(asked);
  CHECK_EQUAL(fill(guest, std::vector<std::uint8_t>(guest.pages(), static_cast<std::uint8_t>(test.kind))).unprepared, 0u);
  const std::vector<std::unique_ptr<Vmm>> vmms = vmms_of(guest, test);
  const SourceServerConfig held{.region_bytes = asked.region_bytes, .seed = seed};
  // Its threads must not be there when the page servers are forked, its port must be known: it is opened twice.
  std::unique_ptr<SourceServer> source;
  if (test.remote) {
    const std::uint16_t port = SourceServer(held).port();
    config.source.name = "remote";
    config.source.remote.host = "127.0.0.1";
    config.source.remote.port = port;
  }
  Servers servers(guest, config, vmms, kServers);
  if (test.remote) {
    SourceServerConfig again = held;
    again.port = config.source.remote.port;
    source = std::make_unique<SourceServer>(again);
  }
  servers.begin();
  std::vector<std::thread> running;
  for (auto& vmm : vmms) running.emplace_back([&vmm] { vmm->run(); });
  std::mt19937 random(seed);
  const auto finished = [&] { return finished_vcpus(guest) == asked.vcpus; };
  // Each is killed at a random moment of its share of the pages, so that there is something to do for its successor.
  const std::uint64_t share = guest.pages() * vmm_count / kServers;
  for (std::uint64_t before = 0; servers.left() > 1 && !finished(); before += share) {
    const std::uint64_t until = before + random() % share;
    while (resolved_pages(guest) < until && !finished()) std::this_thread::sleep_for(std::chrono::microseconds(50));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 1000));
    servers.kill_current();
    for (auto& vmm : vmms) vmm->reclaim();
    servers.begin();
  }
  for (std::thread& thread : running) thread.join();
  CHECK_EQUAL(guest.stop_reason(), "");
  CHECK(guest.header().server_epoch.load() > 0);  // killed while there was something to do
  servers.kill_current();
  guest.succeed_server();  // settles the account of the last one
  check_whole(guest, vmms);
  Counters sum;
  for (std::uint32_t i = 0; i < asked.server_threads; ++i) sum += guest.server_counters(i);
  CHECK_EQUAL(sum[Counter::events], sum.events_ended());
}

}  // namespace

TEST_THAT_FORKS("a page server killed again and again loses no page, no event and no request: shared memory, contents here") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait", "no_slow_gup"})
    kill_again_and_again({strategy, MemoryType::shmem, Kind::minor, 4}, 1);
}

TEST_THAT_FORKS(
    "a page server killed again and again loses no page, no event and no request: shared memory, contents to be fetched") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait", "no_slow_gup", "populate"})
    kill_again_and_again({strategy, MemoryType::shmem, Kind::absent}, 2);
  kill_again_and_again({"uffd_wait", MemoryType::shmem, Kind::absent, 4}, 3);
}

TEST_THAT_FORKS("a page server killed again and again loses no page, no event and no request: anonymous memory") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait", "no_slow_gup"})
    kill_again_and_again({strategy, MemoryType::anon, Kind::absent}, 4);
}

TEST_THAT_FORKS("a page server killed again and again loses no page, no event and no request: a remote source") {
  for (const char* strategy : {"uffd_wait", "no_slow_gup"})
    kill_again_and_again({strategy, MemoryType::shmem, Kind::absent, 1, true}, 5);
  kill_again_and_again({"no_uffd_wait", MemoryType::anon, Kind::absent, 1, true}, 6);
}

TEST("what a killed page server had begun is begun anew: fetches, answers, remove events, and vCPUs that wait for its claims") {
  const Guest guest(GuestConfig{.region_bytes = 16 * 4096});
  CHECK(guest.claim_fetch(5));
  CHECK(guest.claim_fetch(6));
  guest.set_complete(6);
  guest.marking()[2].fetch_add(1);
  guest.header().answering[1].readers.fetch_add(1);
  guest.succeed_server();
  CHECK(guest.claim_fetch(5));
  CHECK(!guest.claim_fetch(6));
  CHECK_EQUAL(guest.marking()[2].load(), 0u);
  CHECK_EQUAL(guest.header().answering[1].readers.load(), 0u);

  Vmm vmm(guest, {.strategy = "uffd_wait"});
  const Mapping bytes = Mapping::shared(vmm.record_fd(), guest.pages());
  const PageRecord record(reinterpret_cast<std::atomic<std::uint8_t>*>(bytes.data()));
  CHECK(record.claim(3, PageRecord::reader_claim(1)));  // of the one that has been succeeded once already
  std::atomic<int> looks{0};
  std::atomic<bool> done{false};
  std::thread waiter([&] {
    while (record.state(3) == PageState::in_flight)
      guest.header().page_waiters.wait(3, 60'000'000'000, [&] {
        ++looks;
        return record.state(3) == PageState::in_flight;
      });
    done = true;
  });
  while (looks == 0) std::this_thread::yield();
  ::usleep(20'000);  // asleep
  CHECK_EQUAL(vmm.reclaim(), 1u);
  for (int i = 0; i < 10'000 && !done; ++i) ::usleep(1000);
  const bool woken = done;
  guest.header().page_waiters.wake_all();
  waiter.join();
  CHECK(woken);
}

TEST("what vCPUs had asked of a killed page server is asked again: taken, or no more than seen") {
  const Guest guest(GuestConfig{.region_bytes = 16 * 4096, .vcpus = 3, .vcpus_per_vmm = 3});
  guest.vcpu(0).request.store(static_cast<std::uint32_t>(RequestState::taken));
  guest.vcpu(1).request.store(static_cast<std::uint32_t>(RequestState::asked));  // its bit was cleared, and then came the end
  guest.succeed_server();
  std::uint32_t vcpu = 2;
  for (const std::uint32_t expected : {0u, 1u}) {
    CHECK(guest.next_request(0, vcpu));
    CHECK_EQUAL(vcpu, expected);
  }
  CHECK(!guest.next_request(0, vcpu));
}

TEST("a request for pages that the guest does not have is refused, and one for more than may be asked for") {
  const Guest guest(GuestConfig{.region_bytes = 16 * 4096, .vcpus = 4, .vcpus_per_vmm = 4, .request_pages = 4});
  PageServer server(guest, {.readers = 0});
  std::thread serving([&] { server.serve(); });
  struct Asked {
    std::uint64_t first;
    std::uint32_t count;
    std::uint64_t wanted;
  };
  const Asked asked[] = {{15, 2, 15}, {16, 1, 16}, {3, 2, 5}, {0, 5, 0}};
  for (std::uint32_t vcpu = 0; vcpu < 4; ++vcpu) {
    VcpuState& line = guest.vcpu(vcpu);
    line.request_page = asked[vcpu].first;
    line.request_pages = asked[vcpu].count;
    line.wanted_page = asked[vcpu].wanted;
    line.request.store(static_cast<std::uint32_t>(RequestState::asked));
    guest.post_request(vcpu);
  }
  const auto answer = [&](std::uint32_t vcpu) { return static_cast<RequestState>(guest.vcpu(vcpu).request.load()); };
  const auto answered = [&](std::uint32_t vcpu) {
    return answer(vcpu) != RequestState::asked && answer(vcpu) != RequestState::taken;
  };
  for (std::uint32_t vcpu = 0; vcpu < 4; ++vcpu)
    for (int i = 0; i < 10'000 && !answered(vcpu); ++i) ::usleep(1000);
  server.stop();
  serving.join();
  for (std::uint32_t vcpu = 0; vcpu < 4; ++vcpu) CHECK(answer(vcpu) == RequestState::failed);
}

TEST("requests are taken in turn from every vCPU that asks, and once each") {
  const Guest guest(GuestConfig{.region_bytes = 256 * 4096, .vcpus = 130, .vcpus_per_vmm = 130});
  for (const std::uint32_t vcpu : {0u, 63u, 64u, 127u, 129u}) {
    guest.vcpu(vcpu).request.store(static_cast<std::uint32_t>(RequestState::asked));
    guest.post_request(vcpu);
  }
  std::uint32_t vcpu = 63;
  for (const std::uint32_t expected : {64u, 127u, 129u, 0u, 63u}) {
    CHECK(guest.next_request(0, vcpu));
    CHECK_EQUAL(vcpu, expected);
  }
  CHECK(!guest.next_request(0, vcpu));
}

TEST("vCPUs ask at the ring of their number, and a ring hands out its own, each vCPU in turn") {
  const Guest guest(GuestConfig{.region_bytes = 512 * 4096, .vcpus = 200, .vcpus_per_vmm = 200, .rings = 3});
  for (std::uint32_t vcpu : {0u, 3u, 4u, 198u, 199u}) {
    guest.vcpu(vcpu).request.store(static_cast<std::uint32_t>(RequestState::asked));
    guest.post_request(vcpu);
  }
  const auto taken = [&guest](std::uint32_t ring, std::uint32_t after) {
    std::vector<std::uint32_t> found;
    for (std::uint32_t vcpu = after; guest.next_request(ring, vcpu);) found.push_back(vcpu);
    return found;
  };
  CHECK(taken(0, 0) == (std::vector<std::uint32_t>{3, 198, 0}));
  CHECK(taken(1, 1) == (std::vector<std::uint32_t>{4, 199}));
  CHECK(taken(2, 2).empty());
}
