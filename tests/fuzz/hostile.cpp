#include "hostile.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "kernel/error.hpp"
#include "resolve/fill.hpp"
#include "source/remote_source.hpp"
#include "source/source_protocol.hpp"
#include "source/source_server.hpp"
#include "source/tcp.hpp"

namespace hostile {

namespace {

using namespace uffd;

constexpr std::uint64_t kPages = 16;
constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kPatienceNs = 20'000'000'000;  // a peer that gets no end in this time has found a hang

void must(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "hostile bytes: %s\n", what);
  std::abort();
}

template <typename T>
void append(std::vector<std::byte>& to, const T& value) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  to.insert(to.end(), bytes, bytes + sizeof value);
}

void append(std::vector<std::byte>& to, const std::uint8_t* data, std::size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  to.insert(to.end(), bytes, bytes + size);
}

/// Sends what is given, ends its side, and reads until the other ends.
void converse(int fd, std::span<const std::byte> sending) {
  std::vector<std::byte> heard(1 << 16);
  bool all_sent = false;
  while (true) {
    pollfd ready{fd, static_cast<short>(all_sent ? POLLIN : POLLIN | POLLOUT), 0};
    const int found = ::poll(&ready, 1, static_cast<int>(kPatienceNs / 1'000'000));
    if (found < 0 && errno == EINTR) continue;  // the fuzzer's own alarm
    must(found == 1, "the peer neither goes on nor ends");
    if (!all_sent && (ready.revents & POLLOUT)) {
      const ssize_t sent = ::send(fd, sending.data(), sending.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN) return;  // refused: it has closed
      if (sent > 0) sending = sending.subspan(static_cast<std::size_t>(sent));
      if (sending.empty()) {
        all_sent = true;
        ::shutdown(fd, SHUT_WR);
      }
    }
    if (ready.revents & (POLLIN | POLLHUP | POLLERR)) {
      const ssize_t got = ::recv(fd, heard.data(), heard.size(), MSG_DONTWAIT);
      if (got == 0 || (got < 0 && errno != EAGAIN)) return;
    }
  }
}

/// A source that sends a welcome, or not, and then the given bytes; one connection after the other.
class Liar {
 public:
  Liar() : listener_(tcp::listen_at(tcp::resolve("127.0.0.1", 0, true))) {
    stop_ = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    thread_ = std::thread([this] { lie(); });
  }
  ~Liar() {
    const std::uint64_t one = 1;
    (void)!::write(stop_.get(), &one, sizeof one);
    thread_.join();
  }
  std::uint16_t port() const { return tcp::port_of(listener_.get()); }
  void say(std::vector<std::byte> words) {
    const std::lock_guard lock(mutex_);
    words_ = std::move(words);
  }

 private:
  void lie() {
    try {
      while (true) {
        tcp::wait(listener_.get(), POLLIN, stop_.get(), kPatienceNs);
        const Descriptor peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!peer.valid()) continue;
        std::vector<std::byte> words;
        {
          const std::lock_guard lock(mutex_);
          words = words_;
        }
        try {
          std::array parts{iovec{words.data(), words.size()}};
          if (!words.empty()) tcp::send_all(peer.get(), parts, stop_.get(), kPatienceNs);
          std::array<std::byte, 4096> heard;
          while (tcp::wait(peer.get(), POLLIN, stop_.get(), 2'000'000) && ::recv(peer.get(), heard.data(), heard.size(), 0) > 0) {
          }
        } catch (const tcp::Lost&) {
        }
      }
    } catch (const tcp::Stopped&) {
    }
  }

  Descriptor listener_, stop_;
  std::mutex mutex_;
  std::vector<std::byte> words_;
  std::thread thread_;
};

}  // namespace

void parser(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return;
  const wire::Shape shape{data[0] % 2 != 0 ? kPages : 1000, data[1] % 2 != 0 ? 2 << 20 : kPageBytes};
  for (const wire::Reader reader : {wire::Reader::source, wire::Reader::page_server}) {
    std::vector<std::byte> bytes;  // a buffer of its own, whose ends the sanitizer checks
    append(bytes, data + 2, size - 2);
    std::span<const std::byte> left(bytes);
    for (wire::Parsed frame; (frame = wire::parse(left, shape, reader)).state == wire::Parsed::State::frame;) {
      must(frame.bytes() >= sizeof(wire::Header) && frame.bytes() <= left.size(), "a frame is longer than what was received");
      must(frame.payload.size() == frame.header.payload_bytes, "a payload is not what was announced");
      unsigned sum = 0;
      for (const std::byte byte : frame.payload) sum += std::to_integer<unsigned>(byte);
      must(sum <= 255u * frame.payload.size(), "a payload cannot be read");
      const bool of_pages = frame.type() == wire::FrameType::request || frame.type() == wire::FrameType::pages;
      if (of_pages) must(frame.header.count != 0 && frame.header.first + frame.header.count <= shape.pages, "pages outside");
      if (frame.type() == wire::FrameType::pages)
        must(frame.payload.size() == frame.header.count * shape.page_bytes, "pages of another size");
      if (frame.type() == wire::FrameType::push) must(frame.payload.size() == shape.bitmap_bytes(), "a bitmap of another size");
      left = left.subspan(frame.bytes());
    }
  }
}

void to_source(const std::uint8_t* data, std::size_t size) {
  static SourceServer source({.region_bytes = kPages * kPageBytes, .page_bytes = kPageBytes, .seed = 1});
  static const tcp::Address address = tcp::resolve("127.0.0.1", source.port(), false);
  static const Descriptor never(::eventfd(0, EFD_CLOEXEC));
  if (size == 0) return;
  std::vector<std::byte> sending;
  if (data[0] % 4 != 0) {  // most inputs get past the greeting
    append(sending, wire::header(wire::FrameType::hello, sizeof(wire::Hello)));
    append(sending, wire::Hello{data[0], kPages * kPageBytes, kPageBytes, 1});
  }
  append(sending, data + 1, size - 1);
  const Descriptor peer = tcp::connect_to(address, never.get(), Clock::monotonic_ns() + kPatienceNs);
  converse(peer.get(), sending);
}

void to_page_server(const std::uint8_t* data, std::size_t size) {
  static Liar liar;
  if (size == 0) return;
  std::vector<std::byte> words;
  if (data[0] % 4 != 0) append(words, wire::header(wire::FrameType::welcome));
  append(words, data + 1, size - 1);
  liar.say(std::move(words));
  const bool push = data[0] % 2 != 0;
  const Guest guest({.region_bytes = kPages * kPageBytes, .contents_seed = 1});
  fill(guest, std::vector<std::uint8_t>(kPages, static_cast<std::uint8_t>(Kind::absent)));
  const Mapping alias = Mapping::shared(guest.region_fd(), kPages * kPageBytes);
  guest.header().released.store(1);
  std::atomic<int> finished{0};
  try {
    RemoteSource remote(guest, alias.data(),
                        {.host = "127.0.0.1", .port = liar.port(), .push = push, .timeout_s = 0.005, .retries = 0});
    remote.start();
    for (std::uint64_t first = 0; first < kPages; first += 4) {
      guest.claim_fetch(first);
      remote.fetch({first, 1}, std::vector<bool>{true}, nullptr, [&finished](Counters&) { ++finished; });
    }
    remote.flush();
    for (int look = 0; look < 20 && !guest.stopping() && finished.load() < 4; ++look)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    remote.stop();
    const SourceCounts counts = remote.counts();
    must(counts.on_demand + counts.pushed <= kPages, "more pages have arrived than there are");
    must(finished.load() <= 4, "a fault was finished twice");
  } catch (const ConfigError&) {  // not the protocol of a source, and said so
  }
}

}  // namespace hostile
