#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <thread>

#include "check.hpp"
#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"
#include "source/source_server.hpp"
#include "whole_guest.hpp"

using namespace uffd;

namespace {

constexpr std::uint64_t kSeed = 77;

SourceServerConfig memory(double rtt_us = 0.0, std::uint16_t port = 0) {
  return {.port = port, .region_bytes = kPages * 4096, .page_bytes = 4096, .seed = kSeed, .rtt_us = rtt_us};
}

GuestPlan plan_for(const std::string& strategy, std::uint16_t port, std::uint32_t vcpus = 2) {
  GuestPlan plan;
  plan.kind = Kind::absent;
  plan.vmm.strategy = strategy;
  plan.vmm.watchdog_s = 20.0;
  plan.guest.region_bytes = kPages * 4096;
  plan.guest.vcpus = plan.guest.vcpus_per_vmm = vcpus;
  plan.guest.contents_seed = kSeed;
  plan.server.source.name = "remote";
  plan.server.source.remote.host = "127.0.0.1";
  plan.server.source.remote.port = port;
  return plan;
}

void check_right(const GuestResult& result, std::uint64_t pages = kPages) {
  CHECK_EQUAL(result.stop_reason, "");
  CHECK_EQUAL(result.wrong_words, 0u);
  CHECK_EQUAL(result.pages_resolved, pages);
  CHECK_EQUAL(result.verified, pages);
}

double seconds_of(const std::function<void()>& body) {
  const auto began = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

// A source of the test's own: greets as the real one does, then does to each connection what the test wants done.
class OddSource {
 public:
  using Behaviour = std::function<void(int fd, int number, int stop)>;
  explicit OddSource(Behaviour behaviour)
      : listener_(tcp::listen_at(tcp::resolve("127.0.0.1", 0, true))),
        stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        thread_([this, behaviour = std::move(behaviour)] {
          std::vector<std::thread> connections;
          try {
            for (int number = 0;; ++number) {
              while (!tcp::wait(listener_.get(), POLLIN, stop_.get(), kNanosecondsPerSecond)) {
              }
              connections.emplace_back([this, behaviour, number, fd = ::accept(listener_.get(), nullptr, nullptr)] {
                const Descriptor socket(fd);
                try {
                  behaviour(fd, number, stop_.get());
                } catch (const tcp::Lost&) {
                } catch (const tcp::Stopped&) {
                }
              });
            }
          } catch (const tcp::Stopped&) {
          }
          for (std::thread& connection : connections) connection.join();
        }) {}
  ~OddSource() {
    const std::uint64_t one = 1;
    (void)!::write(stop_.get(), &one, sizeof one);
    thread_.join();
  }
  std::uint16_t port() const { return tcp::port_of(listener_.get()); }

  static void send(int fd, int stop, const wire::Header& header, std::size_t payload = 0, std::size_t of_it = ~std::size_t{0}) {
    std::vector<std::byte> bytes(sizeof header + payload);
    std::memcpy(bytes.data(), &header, sizeof header);
    const Contents contents(kSeed, 4096);
    for (std::uint32_t i = 0; payload == header.count * 4096ull && i < header.count; ++i)
      contents.fill(header.first + i, bytes.data() + sizeof header + i * 4096);
    std::array parts{iovec{bytes.data(), std::min(bytes.size(), of_it)}};
    tcp::send_all(fd, parts, stop, 5 * kNanosecondsPerSecond);
  }
  /// The next frame the page server sends.
  static wire::Header next(int fd, int stop, tcp::Inbox& inbox) {
    const wire::Shape shape{kPages, 4096};
    wire::Parsed frame;
    while ((frame = wire::parse(inbox.view(), shape, wire::Reader::source)).state == wire::Parsed::State::more)
      if (tcp::wait(fd, POLLIN, stop, kNanosecondsPerSecond)) inbox.receive(fd);
    CHECK(frame.state == wire::Parsed::State::frame);
    inbox.take(frame.bytes());
    return frame.header;
  }
  static void greet(int fd, int stop, tcp::Inbox& inbox) {
    next(fd, stop, inbox);
    send(fd, stop, wire::header(wire::FrameType::welcome));
  }
  static void answer(int fd, int stop, const wire::Header& asked) {
    send(fd, stop, wire::header(wire::FrameType::pages, asked.count * 4096, asked.count, asked.id, asked.first),
         asked.count * 4096ull);
  }

 private:
  Descriptor listener_, stop_;
  std::thread thread_;
};

GuestPlan impatient(const std::string& strategy, std::uint16_t port) {
  GuestPlan plan = plan_for(strategy, port);
  plan.server.source.remote.timeout_s = 0.2;
  plan.server.source.remote.retries = 2;
  return plan;
}

}  // namespace

TEST("a remote source's pages are fetched once each, right, for a sleeping and for an exiting vCPU") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait", "no_slow_gup"})
    for (const std::uint32_t connections : {1u, 3u}) {
      SourceServer source(memory());
      GuestPlan plan = plan_for(strategy, source.port(), 4);
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
    SourceServer source(memory());
    GuestPlan plan = plan_for(strategy, source.port(), 4);
    plan.guest.memory = MemoryType::anon;
    plan.guest.request_pages = 4;
    plan.vmm.access.overlap = true;
    check_right(*run_guest(plan));
  }
}

TEST("overlapping vCPUs of two VMM processes share what one of them fetched") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait"}) {
    SourceServer source(memory(200));
    GuestPlan plan = plan_for(strategy, source.port(), 4);
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
    SourceServer source(memory());
    GuestPlan plan = plan_for(strategy, source.port(), 4);
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
  SourceServer source(memory(3000));
  GuestPlan plan = plan_for("uffd_wait", source.port(), 16);
  plan.guest.region_bytes = 256 * 4096;
  SourceServerConfig small = memory(3000);
  small.region_bytes = plan.guest.region_bytes;
  SourceServer fitting(small);
  plan.server.source.remote.port = fitting.port();
  double took = 0.0;
  std::unique_ptr<GuestResult> result;
  took = seconds_of([&] { result = run_guest(plan); });
  check_right(*result, 256);
  CHECK(result->source.rtt_p50_us >= 3000.0);
  CHECK(took < 256 * 0.003);  // one after the other it would have been this long at least
}

TEST("a source that does not hold the guest's memory refuses, and is quoted") {
  SourceServerConfig other = memory();
  other.seed = 5;
  SourceServer source(other);
  std::string said;
  try {
    run_guest(plan_for("uffd_wait", source.port()));
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
  SourceServer source(memory());
  source.memory()[500 * 4096 + 1234] ^= std::byte{1};
  const auto result = run_guest(plan_for("uffd_wait", source.port()));
  CHECK_EQUAL(result->stop_reason, "");
  CHECK(result->wrong_words >= 1);
}

TEST("frames that arrive in small pieces are put together") {
  OddSource source([](int fd, int, int stop) {
    tcp::Inbox inbox(1 << 16);
    OddSource::greet(fd, stop, inbox);
    for (;;) {
      const wire::Header asked = OddSource::next(fd, stop, inbox);
      const Contents contents(kSeed, 4096);
      std::vector<std::byte> bytes(sizeof(wire::Header) + 4096);
      const wire::Header header = wire::header(wire::FrameType::pages, 4096, 1, asked.id, asked.first);
      std::memcpy(bytes.data(), &header, sizeof header);
      contents.fill(asked.first, bytes.data() + sizeof header);
      for (std::size_t at = 0; at < bytes.size(); at += 1499) {
        std::array parts{iovec{bytes.data() + at, std::min<std::size_t>(1499, bytes.size() - at)}};
        tcp::send_all(fd, parts, stop, kNanosecondsPerSecond);
      }
    }
  });
  GuestPlan plan = plan_for("uffd_wait", source.port());
  check_right(*run_guest(plan));
}

TEST("a connection that ends half way through a page is made anew, and the page asked for again") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait"}) {
    OddSource source([](int fd, int number, int stop) {
      tcp::Inbox inbox(1 << 16);
      OddSource::greet(fd, stop, inbox);
      for (int answered = 0;; ++answered) {
        const wire::Header asked = OddSource::next(fd, stop, inbox);
        if (number < 3 && answered == 100) {
          OddSource::send(fd, stop, wire::header(wire::FrameType::pages, 4096, 1, asked.id, asked.first), 4096, 32 + 2000);
          return;
        }
        OddSource::answer(fd, stop, asked);
      }
    });
    const auto result = run_guest(plan_for(strategy, source.port()));
    check_right(*result);
    CHECK(result->source.retries >= 3);
    CHECK_EQUAL(result->source.on_demand, kPages);
  }
}

TEST("an answer that comes twice is used once") {
  OddSource source([](int fd, int, int stop) {
    tcp::Inbox inbox(1 << 16);
    OddSource::greet(fd, stop, inbox);
    for (;;) {
      const wire::Header asked = OddSource::next(fd, stop, inbox);
      OddSource::answer(fd, stop, asked);
      OddSource::answer(fd, stop, asked);
    }
  });
  const auto result = run_guest(plan_for("uffd_wait", source.port()));
  check_right(*result);
  CHECK_EQUAL(result->source.on_demand, kPages);
  CHECK(result->source.twice >= kPages - 2);  // the last ones may be still on their way at the end
}

TEST("a source that stops answering is asked again, and then the run fails by its name in the time it was given") {
  for (const char* strategy : {"uffd_wait", "no_slow_gup"}) {
    OddSource source([](int fd, int, int stop) {
      tcp::Inbox inbox(1 << 16);
      OddSource::greet(fd, stop, inbox);
      for (int answered = 0; answered < 200; ++answered) OddSource::answer(fd, stop, OddSource::next(fd, stop, inbox));
      for (;;) OddSource::next(fd, stop, inbox);
    });
    // Every new connection answers 200 requests again, so this source is slow rather than gone, until the guest is through.
    // Under a sanitizer on a busy machine many an answer is late that was not meant to be.
    GuestPlan plan = impatient(strategy, source.port());
    plan.server.source.remote.retries = 50;
    const auto result = run_guest(plan);
    check_right(*result);
    CHECK(result->source.retries > 0);
  }
  OddSource mute([](int fd, int number, int stop) {
    tcp::Inbox inbox(1 << 16);
    OddSource::greet(fd, stop, inbox);
    for (int answered = 0; number == 0 && answered < 50; ++answered)
      OddSource::answer(fd, stop, OddSource::next(fd, stop, inbox));
    for (;;) OddSource::next(fd, stop, inbox);
  });
  std::unique_ptr<GuestResult> result;
  const double took = seconds_of([&] { result = run_guest(impatient("uffd_wait", mute.port())); });
  CHECK(result->stop_reason.find("the source at 127.0.0.1:") == 0);
  CHECK(result->stop_reason.find("sent nothing that was asked for in ") != std::string::npos);
  CHECK(result->stop_reason.find("2 retries (last: it did not ") != std::string::npos);
  CHECK(took < 15.0);
}

TEST("a source that is gone fails the run by its name, with and without a push") {
  for (const bool push : {false, true}) {
    auto source = std::make_unique<SourceServer>(memory());
    GuestPlan plan = impatient("no_uffd_wait", source->port());
    plan.server.source.remote.push = push;
    plan.server.source.remote.push_mib_per_s = 1;
    plan.vmm.access.rate_per_s = 500;
    std::thread killer([&source] {
      while (source->served().requests < 100) std::this_thread::yield();
      source.reset();
    });
    const auto result = run_guest(plan);
    killer.join();
    CHECK(result->stop_reason.find("the source at 127.0.0.1:") == 0);
    CHECK(result->stop_reason.find("onnect") != std::string::npos);  // closed the connection, or connection refused
    CHECK_EQUAL(result->wrong_words, 0u);
  }
}

TEST("a source that comes back in time is used again") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait"}) {
    auto source = std::make_unique<SourceServer>(memory());
    const std::uint16_t port = source->port();
    GuestPlan plan = plan_for(strategy, port);
    plan.server.source.remote.push = true;
    plan.server.source.remote.push_mib_per_s = 1;
    plan.vmm.access.rate_per_s = 1500;
    std::thread killer([&] {
      while (source->served().requests < 100) std::this_thread::yield();
      source.reset();
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      source = std::make_unique<SourceServer>(memory(0.0, port));
    });
    const auto result = run_guest(plan);
    killer.join();
    check_right(*result);
    CHECK_EQUAL(result->source.pushed + result->source.on_demand, kPages);
  }
}

TEST("a source that talks nonsense is taken for lost, and named with what was wrong") {
  OddSource source([](int fd, int, int stop) {
    tcp::Inbox inbox(1 << 16);
    OddSource::greet(fd, stop, inbox);
    OddSource::next(fd, stop, inbox);
    OddSource::send(fd, stop, wire::header(wire::FrameType::pages, 4096, 1, 1, 5000));
    OddSource::next(fd, stop, inbox);
  });
  const auto result = run_guest(impatient("uffd_wait", source.port()));
  CHECK(result->stop_reason.find("(last: pages outside the region)") != std::string::npos);
}

TEST("a source serves on whatever its other peers send") {
  SourceServer source(memory());
  std::vector<Descriptor> peers;
  const Descriptor stop(::eventfd(0, EFD_CLOEXEC));
  const auto send = [&](std::vector<std::byte> bytes) {
    peers.push_back(tcp::connect_to(tcp::resolve("127.0.0.1", source.port(), false), stop.get(), ~0ull));
    (void)!::send(peers.back().get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  };
  const auto frame = [](const wire::Header& header, std::size_t more) {
    std::vector<std::byte> bytes(sizeof header + more);
    std::memcpy(bytes.data(), &header, sizeof header);
    return bytes;
  };
  send({});
  send(std::vector<std::byte>(1, std::byte{'G'}));
  send(std::vector<std::byte>(100'000, std::byte{'G'}));
  send(frame(wire::header(wire::FrameType::hello, 32), 5));            // half a hello
  send(frame(wire::header(wire::FrameType::hello, 32), 32));           // asks for nothing that is here
  send(frame(wire::header(wire::FrameType::request, 0, 1, 1, 0), 0));  // no hello
  send(frame(wire::header(wire::FrameType::push, ~0u, 16), 0));        // 4 GiB of bitmap
  const auto result = run_guest(plan_for("no_uffd_wait", source.port()));
  check_right(*result);
  CHECK(source.served().refused >= 4);
}

TEST("a source does not keep a connection for a push that was asked to take an hour, when its peer has gone") {
  SourceServer source(memory());
  const Descriptor stop(::eventfd(0, EFD_CLOEXEC));
  const Descriptor peer = tcp::connect_to(tcp::resolve("127.0.0.1", source.port(), false), stop.get(), ~0ull);
  const wire::Header hello = wire::header(wire::FrameType::hello, sizeof(wire::Hello));
  const wire::Hello wanted{1, kPages * 4096, 4096, kSeed};
  const std::vector<std::byte> everything(kPages / 8, std::byte{0xff});
  const wire::Header push = wire::header(wire::FrameType::push, kPages / 8, 1, 4096 * kPages / 3600);
  std::array parts{iovec{const_cast<wire::Header*>(&hello), sizeof hello},
                   iovec{const_cast<wire::Hello*>(&wanted), sizeof wanted}, iovec{const_cast<wire::Header*>(&push), sizeof push},
                   iovec{const_cast<std::byte*>(everything.data()), everything.size()}};
  tcp::send_all(peer.get(), parts, stop.get(), kNanosecondsPerSecond);
  ::shutdown(peer.get(), SHUT_WR);
  tcp::Inbox inbox(1 << 20);
  const std::uint64_t patience = Clock::monotonic_ns() + 10 * kNanosecondsPerSecond;
  const double took = seconds_of([&] {
    try {
      while (Clock::monotonic_ns() < patience)
        if (tcp::wait(peer.get(), POLLIN, stop.get(), kNanosecondsPerSecond)) inbox.take(inbox.receive(peer.get()));
    } catch (const tcp::Ended&) {
    }
  });
  CHECK(took < 10.0);
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
        GuestPlan plan = plan_for(strategy, 0);
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
