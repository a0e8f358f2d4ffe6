// The connections of a remote source: made, lost, made again, and the threads that receive on them.
#include <poll.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "kernel/clock.hpp"
#include "source/remote_source.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kReconnectNs = 50'000'000;         // between two tries to reach a source that refuses
constexpr std::uint64_t kBitmapStalledNs = 2'000'000'000;  // how long the source may take nothing of a bitmap

std::string seconds(std::uint64_t ns) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", static_cast<double>(ns) / 1e9);
  return text;
}

}  // namespace

// One connection, greeted.
Descriptor RemoteSource::connect(std::uint64_t deadline_ns) {
  const int stop = stop_event_.get();
  Descriptor socket = tcp::connect_to(address_, stop, deadline_ns);
  tcp::limit_await(socket.get(), kStopPollNs);
  const GuestConfig& config = guest_.config();
  const wire::Hello hello{session_, config.region_bytes, config.page_bytes, config.contents_seed};
  const wire::Header header = wire::header(wire::FrameType::hello, sizeof hello);
  std::array parts{iovec{const_cast<wire::Header*>(&header), sizeof header},
                   iovec{const_cast<wire::Hello*>(&hello), sizeof hello}};
  tcp::send_all(socket.get(), parts, stop, timeout_ns_);
  // What follows the welcome is answers to requests that have not been sent: nothing, so the buffer may go.
  tcp::Inbox inbox(sizeof(wire::Header) + shape().largest_payload());
  wire::Parsed frame;
  while ((frame = wire::parse(inbox.view(), shape(), wire::Reader::page_server)).state == wire::Parsed::State::more) {
    const std::uint64_t now = Clock::monotonic_ns();
    if (now >= deadline_ns || !tcp::wait(socket.get(), POLLIN, stop, deadline_ns - now))
      throw tcp::Lost("it sent no welcome within " + seconds(timeout_ns_));
    inbox.receive(socket.get());
  }
  if (frame.state == wire::Parsed::State::bad) throw tcp::Lost(frame.error);
  if (frame.type() == wire::FrameType::refused)
    throw tcp::Lost("it refused: " + std::string(reinterpret_cast<const char*>(frame.payload.data()), frame.payload.size()));
  if (frame.type() != wire::FrameType::welcome) throw tcp::Lost("it did not begin with a welcome");
  return socket;
}

/// The next bytes of a connection that asks, or none for now. Answers make room for the rest of the requests.
std::size_t RemoteSource::more_answers(Link& link, tcp::Inbox& inbox) {
  const int fd = link.socket.get();
  if (!link.waiting.load(std::memory_order_acquire)) return inbox.await(fd);
  tcp::wait(fd, POLLIN | POLLOUT, stop_event_.get(), kStopPollNs);
  send_outbox(link);
  return inbox.receive(fd);
}

// The thread of a connection that asks.
void RemoteSource::receive_answers(Link& link) {
  tcp::Inbox inbox(sizeof(wire::Header) + shape().largest_payload());
  std::uint64_t looked = Clock::monotonic_ns();
  while (!stopping_.load(std::memory_order_acquire)) {
    if (!link.socket.valid()) {
      inbox.clear();
      if (!reconnect(link)) return;
      continue;
    }
    try {
      if (const std::size_t got = more_answers(link, inbox); got != 0) {
        link.counts.bytes += got;
        link.heard_ns = Clock::monotonic_ns();
        take_frames(link, inbox);
        flush();  // a finished fault may have asked for the next one
      }
    } catch (const tcp::Lost& lost) {
      lose(link, lost.what());
      continue;
    }
    const std::uint64_t now = Clock::monotonic_ns();
    if (now - looked < timeout_ns_ / 16) continue;
    looked = now;
    if (overdue(link)) return;
  }
}

/// Ends the connection; its thread makes a new one.
void RemoteSource::lose(Link& link, const std::string& why) {
  const std::lock_guard lock(link.mutex);
  link.socket.reset();
  link.outbox.clear();
  link.waiting.store(false);
  link.why = why;
  if (link.lost_ns == 0) link.lost_ns = Clock::monotonic_ns();
}

// The oldest request decides: past the time-out with nothing heard it is asked again on a new connection, past all retries
// the run fails. True when it has failed.
bool RemoteSource::overdue(Link& link) {
  const std::uint64_t now = Clock::monotonic_ns();
  std::uint64_t asked = now, sent = now;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, request] : requests_) {
      if (request.link != link.index) continue;
      asked = std::min(asked, request.asked_ns);
      sent = std::min(sent, request.sent_ns);
    }
  }
  if (link.lost_ns != 0) asked = std::min(asked, link.lost_ns);
  if (now - asked > budget_ns()) {
    fail(link, asked);
    return true;
  }
  if (link.socket.valid() && now - sent > timeout_ns_ && now - link.heard_ns > timeout_ns_)
    lose(link, "it did not answer within " + seconds(timeout_ns_));
  return false;
}

void RemoteSource::fail(const Link& link, std::uint64_t since_ns) {
  guest_.stop(name_ + " sent nothing that was asked for in " + seconds(Clock::monotonic_ns() - since_ns) + ", " +
              std::to_string(config_.retries) + " retries (last: " + (link.why.empty() ? "no answer" : link.why) + ")");
}

/// Until there is a connection again: true. False: the run has failed, or is over.
bool RemoteSource::reconnect(Link& link) {
  while (!stopping_.load(std::memory_order_acquire)) {
    if (overdue(link)) return false;
    try {
      ask_again(link, connect(Clock::monotonic_ns() + timeout_ns_));
      return true;
    } catch (const tcp::Lost& lost) {
      link.why = lost.what();
      tcp::wait(stop_event_.get(), POLLIN, stop_event_.get(), kReconnectNs);
    }
  }
  return false;
}

void RemoteSource::ask_again(Link& link, Descriptor socket) {
  const std::lock_guard sending(link.mutex);
  const std::lock_guard lock(mutex_);
  const std::uint64_t now = Clock::monotonic_ns();
  link.outbox.clear();
  for (auto& [id, request] : requests_) {
    if (request.link != link.index) continue;
    wire::append(link.outbox, wire::header(wire::FrameType::request, 0, request.count, id, request.first));
    request.sent_ns = now;
    ++link.counts.retries;
  }
  link.socket = std::move(socket);
  link.heard_ns = now;
  if (link.outbox.empty()) link.lost_ns = 0;  // nothing is waited for: that the connection was idle is no failure
  link.waiting.store(!link.outbox.empty(), std::memory_order_release);
}

// The thread of the push's connection: it begins with the measured phase, and ends when everything has been sent.
void RemoteSource::receive_push(Link& link) {
  FutexWord& released = guest_.header().released;
  while (released.load(std::memory_order_acquire) == 0) {
    if (stopping_.load(std::memory_order_acquire) || guest_.stopping()) return;
    futex_wait(released, 0, kStopPollNs);
  }
  tcp::Inbox inbox(sizeof(wire::Header) + shape().largest_payload());
  bool asked = false;
  while (!stopping_.load(std::memory_order_acquire)) {
    try {
      if (!link.socket.valid()) {
        inbox.clear();
        asked = false;
        if (!reconnect(link)) return;
      }
      if (!asked) send_bitmap(link.socket.get());
      if (!asked) link.heard_ns = Clock::monotonic_ns();
      asked = true;
      if (tcp::wait(link.socket.get(), POLLIN, stop_event_.get(), kStopPollNs)) {
        const std::size_t got = inbox.receive(link.socket.get());
        link.counts.bytes += got;
        if (got != 0) link.heard_ns = Clock::monotonic_ns();
      }
      if (take_frames(link, inbox)) return;
      if (Clock::monotonic_ns() - link.heard_ns > timeout_ns_) throw tcp::Lost("it pushed nothing for " + seconds(timeout_ns_));
    } catch (const tcp::Lost& lost) {
      lose(link, lost.what());
    }
  }
}

void RemoteSource::send_bitmap(int fd) {
  std::vector<std::byte> wanted(shape().bitmap_bytes());
  for (std::uint64_t page = 0; page < guest_.pages(); ++page)
    if (!guest_.complete(page)) wanted[page / 8] |= std::byte{1} << (page % 8);
  const wire::Header header = wire::header(wire::FrameType::push, static_cast<std::uint32_t>(wanted.size()), config_.batch_pages,
                                           static_cast<std::uint64_t>(config_.push_mib_per_s * (1 << 20)));
  std::array parts{iovec{const_cast<wire::Header*>(&header), sizeof header}, iovec{wanted.data(), wanted.size()}};
  tcp::send_all(fd, parts, stop_event_.get(), kBitmapStalledNs);
}

}  // namespace uffd
