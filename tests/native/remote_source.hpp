// Guests fed by a source over TCP on loopback: the core's own, or one that behaves as the test needs.
#pragma once

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

namespace remote_source {

using namespace uffd;

constexpr std::uint64_t kSeed = 77;

inline SourceServerConfig held_memory(double rtt_us = 0.0, std::uint16_t port = 0) {
  return {.port = port, .region_bytes = kPages * 4096, .page_bytes = 4096, .seed = kSeed, .rtt_us = rtt_us};
}

inline GuestPlan fed_plan(const std::string& strategy, std::uint16_t port, std::uint32_t vcpus = 2) {
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

inline void check_right(const GuestResult& result, std::uint64_t pages = kPages) {
  CHECK_EQUAL(result.stop_reason, "");
  CHECK_EQUAL(result.wrong_words, 0u);
  CHECK_EQUAL(result.pages_resolved, pages);
  CHECK_EQUAL(result.verified, pages);
}

inline double seconds_of(const std::function<void()>& body) {
  const auto began = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

/// A source of the test's own: greets as the real one does, then treats each connection as the test needs.
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
                tcp::prepare(fd);  // as the core's: no small piece waits for the acknowledgement of the one before
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

inline GuestPlan impatient(const std::string& strategy, std::uint16_t port) {
  GuestPlan plan = fed_plan(strategy, port);
  plan.server.source.remote.timeout_s = 0.2 * static_cast<double>(slowness());
  plan.server.source.remote.retries = 2;
  return plan;
}

}  // namespace remote_source
