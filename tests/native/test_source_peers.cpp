// What peers can make a source do: silent ones, many of them, large bitmaps.
#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <cstring>
#include <thread>

#include "check.hpp"
#include "guest/guest.hpp"
#include "source/remote_source.hpp"
#include "source/source_server.hpp"

using namespace uffd;

namespace {

constexpr std::uint64_t kSourcePages = 16;

SourceServerConfig memory(std::size_t connections, double idle_s, std::uint64_t pages = kSourcePages) {
  return {.region_bytes = pages * 4096, .seed = 7, .connections = connections, .idle_s = idle_s};
}

/// A peer that sends what the test gives.
class RawPeer {
 public:
  RawPeer(const SourceServer& source, std::uint64_t session, std::uint64_t pages = kSourcePages)
      : shape_{pages, 4096},
        inbox_(sizeof(wire::Header) + shape_.largest_payload()),
        socket_(tcp::connect_to(tcp::resolve("127.0.0.1", source.port(), false), never_.get(), Clock::monotonic_ns() + kLimit)) {
    const wire::Hello hello{session, pages * 4096, 4096, 7};
    send(wire::header(wire::FrameType::hello, sizeof hello), &hello, sizeof hello);
  }
  void send(const wire::Header& header, const void* payload = nullptr, std::size_t bytes = 0) {
    std::array parts{tcp::part(&header, sizeof header), tcp::part(payload, bytes)};
    tcp::send_all(socket_.get(), parts, never_.get(), kLimit);
  }
  /// The next frame, and for a refusal its words.
  wire::Header next(std::string* words = nullptr) {
    wire::Parsed frame;
    while ((frame = wire::parse(inbox_.view(), shape_, wire::Reader::page_server)).state == wire::Parsed::State::more) {
      CHECK(tcp::wait(socket_.get(), POLLIN, never_.get(), kLimit));
      inbox_.receive(socket_.get());
    }
    CHECK(frame.state == wire::Parsed::State::frame);
    if (words != nullptr) words->assign(reinterpret_cast<const char*>(frame.payload.data()), frame.payload.size());
    inbox_.take(frame.bytes());
    return frame.header;
  }
  bool was_ended() {
    try {
      for (int i = 0; i < 500; ++i)
        if (tcp::wait(socket_.get(), POLLIN, never_.get(), 10'000'000)) inbox_.receive(socket_.get());
    } catch (const tcp::Lost&) {
      return true;
    }
    return false;
  }

 private:
  static constexpr std::uint64_t kLimit = 10'000'000'000;
  Descriptor never_{::eventfd(0, EFD_CLOEXEC)};
  wire::Shape shape_;
  tcp::Inbox inbox_;
  Descriptor socket_;
};

bool is(const wire::Header& header, wire::FrameType type) { return static_cast<wire::FrameType>(header.type) == type; }

}  // namespace

TEST("a peer that is silent after its hello is ended when another needs its place") {
  SourceServer source(memory(2, 0.05));
  RawPeer first(source, 1), second(source, 2);
  CHECK(is(first.next(), wire::FrameType::welcome));
  CHECK(is(second.next(), wire::FrameType::welcome));
  ::usleep(100'000);
  second.send(wire::header(wire::FrameType::request, 0, 1, 1, 3));
  CHECK(is(second.next(), wire::FrameType::pages));
  RawPeer third(source, 3);
  CHECK(is(third.next(), wire::FrameType::welcome));
  CHECK(first.was_ended());
  second.send(wire::header(wire::FrameType::request, 0, 1, 2, 4));
  CHECK(is(second.next(), wire::FrameType::pages));
}

TEST("a peer for whom there is no place is refused in words") {
  SourceServer source(memory(2, 1000.0));
  RawPeer first(source, 1), second(source, 2);
  CHECK(is(first.next(), wire::FrameType::welcome));
  CHECK(is(second.next(), wire::FrameType::welcome));
  RawPeer third(source, 3);
  std::string words;
  CHECK(is(third.next(&words), wire::FrameType::refused));
  CHECK_EQUAL(words, "more than 2 connections at once");
  for (int i = 0; i < 5000 && source.served().last_refusal.empty(); ++i) ::usleep(1000);  // it is noted after it is sent
  CHECK_EQUAL(source.served().last_refusal, words);
}

TEST("a remote source whose idle connection was ended connects again, and the run goes on") {
  SourceServer source(memory(1, 0.3));
  const Guest guest({.region_bytes = kSourcePages * 4096, .contents_seed = 7});
  const Mapping alias = Mapping::shared(guest.region_fd(), kSourcePages * 4096);
  RemoteSource remote(guest, alias.data(), {.host = "127.0.0.1", .port = source.port(), .timeout_s = 0.5, .retries = 1});
  remote.start();
  ::usleep(500'000);
  {
    RawPeer other(source, 1);
    CHECK(is(other.next(), wire::FrameType::welcome));
    CHECK(other.was_ended());  // the remote source has come back
  }
  ::usleep(2'000'000);  // more than all retries take
  CHECK_EQUAL(guest.stop_reason(), "");
  std::atomic<bool> done{false};
  CHECK(guest.claim_fetch(5));
  CHECK(remote.fetch({5, 1}, {true}, nullptr, [&done](Counters&) { done.store(true); }));
  remote.flush();
  for (int i = 0; i < 5000 && !done.load(); ++i) ::usleep(1000);
  CHECK(done.load());
  CHECK(guest.complete(5));
  remote.stop();
}

TEST("a push whose bitmap is larger than a connection's buffer is served, and requests after it too") {
  constexpr std::uint64_t pages = 40'000;
  SourceServer source(memory(2, 1000.0, pages));
  RawPeer peer(source, 1, pages);
  CHECK(is(peer.next(), wire::FrameType::welcome));
  std::vector<std::byte> wanted((pages + 7) / 8);
  wanted[(pages - 1) / 8] = std::byte{1} << ((pages - 1) % 8);
  for (int times = 0; times < 2; ++times) {
    peer.send(wire::header(wire::FrameType::push, static_cast<std::uint32_t>(wanted.size()), 16), wanted.data(), wanted.size());
    const wire::Header pushed = peer.next();
    CHECK(is(pushed, wire::FrameType::pages));
    CHECK_EQUAL(pushed.first, pages - 1);
    CHECK_EQUAL(pushed.count, 1u);
    CHECK(is(peer.next(), wire::FrameType::pushed));
    peer.send(wire::header(wire::FrameType::request, 0, 1, 9, 77));
    CHECK_EQUAL(peer.next().first, 77u);
  }
}

TEST("pages that were pushed and lost with their connection are pushed again, and those that arrived are not") {
  SourceServer source(memory(8, 1000.0));
  const auto pushed = [&source](std::byte wanted) {
    RawPeer peer(source, 1);  // the guest of before
    CHECK(is(peer.next(), wire::FrameType::welcome));
    const std::array<std::byte, 2> bitmap{wanted, std::byte{0}};
    peer.send(wire::header(wire::FrameType::push, 2, 16), bitmap.data(), bitmap.size());
    std::vector<std::uint64_t> pages;
    for (wire::Header frame = peer.next(); is(frame, wire::FrameType::pages); frame = peer.next())
      for (std::uint32_t i = 0; i < frame.count; ++i) pages.push_back(frame.first + i);
    return pages;
  };
  RawPeer keeps(source, 1);  // the session
  CHECK(is(keeps.next(), wire::FrameType::welcome));
  CHECK(pushed(std::byte{0b1111}) == (std::vector<std::uint64_t>{0, 1, 2, 3}));
  CHECK(pushed(std::byte{0b1100}) == (std::vector<std::uint64_t>{2, 3}));
}

TEST("a guest for whose bitmap there is no room is refused in words, and served once another guest has gone") {
  SourceServerConfig config = memory(32, 1000.0);
  config.buffer_bytes = 0;  // room for the bitmaps of eight guests, and no more
  SourceServer source(config);
  std::vector<std::unique_ptr<RawPeer>> guests;
  for (std::uint64_t session = 1; session <= 8; ++session) {
    guests.push_back(std::make_unique<RawPeer>(source, session));
    CHECK(is(guests.back()->next(), wire::FrameType::welcome));
  }
  RawPeer again(source, 8);  // another connection of a guest that has its room
  CHECK(is(again.next(), wire::FrameType::welcome));
  std::string words;
  RawPeer ninth(source, 9);
  CHECK(is(ninth.next(&words), wire::FrameType::refused));
  CHECK_EQUAL(words, "the buffers of all connections are taken");
  CHECK(ninth.was_ended());
  guests.erase(guests.begin());
  bool welcome = false;
  for (int tries = 0; tries < 500 && !welcome; ++tries) {  // its thread has to see that it has gone
    RawPeer next(source, 10);
    welcome = is(next.next(), wire::FrameType::welcome);
    if (!welcome) ::usleep(10'000);
  }
  CHECK(welcome);
}

TEST("buffers of connections are lent from a bounded room, and come back") {
  BufferRoom room(100);
  {
    const BufferRoom::Lease held = room.take(60);
    bool refused = false;
    try {
      room.take(60);
    } catch (const tcp::Lost& lost) {
      refused = std::string(lost.what()) == "the buffers of all connections are taken";
    }
    CHECK(refused);
    BufferRoom::Lease other = room.take(40);
    other = {};
    room.take(40);
  }
  room.take(100);
}
