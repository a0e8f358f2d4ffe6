// What a thread of the source does with its connection: greet, answer requests, push.
#include <poll.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>

#include "kernel/clock.hpp"
#include "source/source_server.hpp"

namespace uffd {

namespace {

constexpr std::size_t kMostOutstanding = 1 << 17;
constexpr std::uint64_t kHelloNs = 10'000'000'000;        // how long a peer may take to greet
constexpr std::uint64_t kPeerStalledNs = 30'000'000'000;  // how long a peer may take nothing of what is sent to it
constexpr std::uint64_t kGiveWayNs = 50'000;              // how often a push looks whether requests are being answered
constexpr int kGiveWayTimes = 40;                         // ... and after how many looks it goes on: a push never starves
constexpr std::size_t kSmallFrames = 2 << 10;             // what a connection's buffer holds when it pushes nothing

}  // namespace

// The first frame names the memory that is wanted; memory that is not here is refused in words, and so is a frame out of turn.
wire::Hello SourceServer::greet(int fd, tcp::Inbox& inbox) {
  const std::uint64_t deadline = Clock::monotonic_ns() + kHelloNs;
  wire::Parsed frame;
  while ((frame = wire::parse(inbox.view(), shape_, wire::Reader::source)).state == wire::Parsed::State::more) {
    const std::uint64_t now = Clock::monotonic_ns();
    if (now >= deadline || !tcp::wait(fd, POLLIN, stop_event_.get(), deadline - now)) throw tcp::Lost("it sent no hello in time");
    inbox.receive(fd);
  }
  std::string why;
  wire::Hello hello;
  if (frame.state == wire::Parsed::State::bad) {
    why = frame.error;
  } else if (frame.type() != wire::FrameType::hello) {
    why = "a connection begins with a hello";
  } else {
    std::memcpy(&hello, frame.payload.data(), sizeof hello);
    const auto differs = [&why](const char* what, std::uint64_t here, std::uint64_t asked) {
      if (here != asked && why.empty())
        why = std::string("it holds ") + what + " " + std::to_string(here) + " and was asked for " + std::to_string(asked);
    };
    differs("a region of bytes", config_.region_bytes, hello.region_bytes);
    differs("pages of bytes", config_.page_bytes, hello.page_bytes);
    differs("contents of seed", config_.seed, hello.seed);
  }
  if (!why.empty()) turn_away(fd, why);
  inbox.take(frame.bytes());
  return hello;
}

std::shared_ptr<SourceServer::Session> SourceServer::session_of(const wire::Hello& hello) {
  const std::lock_guard lock(mutex_);
  std::erase_if(sessions_, [](const auto& entry) { return entry.second.expired(); });
  std::shared_ptr<Session> session = sessions_[hello.session].lock();
  if (session == nullptr)
    sessions_[hello.session] = session = std::make_shared<Session>(shape_.pages, room_.take(shape_.bitmap_bytes()));
  ++served_.connections;
  return session;
}

void SourceServer::serve(Connection& connection) {
  ::prctl(PR_SET_TIMERSLACK, 1);  // an emulated round-trip time is kept to what the timers can
  const int fd = connection.socket.get();
  try {
    tcp::Inbox inbox(sizeof(wire::Header) + kSmallFrames);
    try {
      const wire::Hello hello = greet(fd, inbox);
      const std::shared_ptr<Session> session = session_or_refusal(fd, hello);
      const wire::Header header = wire::header(wire::FrameType::welcome);
      std::array parts{tcp::part(&header, sizeof header)};
      send_all(fd, parts);
      serve_frames(connection, inbox, *session);
    } catch (const tcp::Ended& ended) {
      if (!inbox.view().empty()) refuse(ended.what());
    }
  } catch (const tcp::Stopped&) {
  } catch (const std::exception& error) {
    refuse(error.what());
  }
}

std::shared_ptr<SourceServer::Session> SourceServer::session_or_refusal(int fd, const wire::Hello& hello) {
  try {
    return session_of(hello);
  } catch (const std::exception& error) {
    turn_away(fd, error.what());
  }
}

void SourceServer::serve_frames(Connection& connection, tcp::Inbox& inbox, Session& session) {
  const int fd = connection.socket.get();
  const auto rtt_ns = static_cast<std::uint64_t>(config_.rtt_us * 1000.0);
  std::deque<Due> queue;  // in the order they came, which is the order they are due
  std::vector<Due> due;
  while (true) {
    const std::uint64_t came = Clock::monotonic_ns();
    while (take_frame(connection, inbox, session, queue)) connection.active_ns.store(came);
    const std::uint64_t now = rtt_ns == 0 ? came : Clock::monotonic_ns();
    due.clear();
    for (; !queue.empty() && queue.front().came_ns + rtt_ns <= now; queue.pop_front()) due.push_back(queue.front());
    if (!due.empty()) {
      answer(fd, due, session);
      connection.active_ns.store(now);
      if (rtt_ns != 0) continue;  // time has passed
    }
    if (queue.empty()) {
      inbox.await(fd);
    } else {
      tcp::wait(fd, POLLIN, stop_event_.get(), queue.front().came_ns + rtt_ns - now);
      inbox.receive(fd);
    }
  }
}

// False: no frame is whole. A push carries a bitmap of the region, for which the buffer grows meanwhile. Throws Lost.
bool SourceServer::take_frame(Connection& connection, tcp::Inbox& inbox, Session& session, std::deque<Due>& queue) {
  const wire::Parsed frame = wire::parse(inbox.view(), shape_, wire::Reader::source);
  if (frame.state == wire::Parsed::State::bad) throw tcp::Lost(frame.error);
  if (frame.state == wire::Parsed::State::more) {
    if (inbox.view().size() < sizeof(wire::Header) || frame.type() != wire::FrameType::push) return false;
    const std::size_t wanted = sizeof(wire::Header) + frame.header.payload_bytes;
    if (inbox.capacity() >= wanted) return false;
    connection.lease = room_.take(wanted);
    inbox.resize(wanted);
    return false;
  }
  switch (frame.type()) {
    case wire::FrameType::push:
      if (config_.rtt_us > 0.0)
        tcp::wait(stop_event_.get(), POLLIN, stop_event_.get(), static_cast<std::uint64_t>(config_.rtt_us * 1000.0));
      push(connection, frame, session);
      inbox.take(frame.bytes());
      inbox.resize(2 * (sizeof(wire::Header) + kSmallFrames));
      connection.lease = {};
      return true;
    case wire::FrameType::request:
      if (queue.size() >= kMostOutstanding) throw tcp::Lost("too many requests without waiting for answers");
      queue.push_back({Clock::monotonic_ns(), frame.header});
      inbox.take(frame.bytes());
      return true;
    default: throw tcp::Lost("a second hello");
  }
}

void SourceServer::send_all(int fd, std::span<iovec> parts) const { tcp::send_all(fd, parts, stop_event_.get(), kPeerStalledNs); }

// Every request that is due leaves in as few system calls as they fit in, straight from the guest's memory.
void SourceServer::answer(int fd, std::span<const Due> due, Session& session) {
  session.answering.fetch_add(1);
  const auto most = static_cast<std::uint32_t>(shape_.largest_payload() / shape_.page_bytes);
  std::vector<wire::Header> headers;
  for (const Due& one : due)
    for (std::uint32_t at = 0; at < one.request.count; at += most) {
      const std::uint32_t count = std::min(most, one.request.count - at);
      headers.push_back(wire::header(wire::FrameType::pages, static_cast<std::uint32_t>(count * shape_.page_bytes), count,
                                     one.request.id, one.request.first + at));
    }
  std::vector<iovec> parts;
  for (const wire::Header& header : headers) {
    parts.push_back(tcp::part(&header, sizeof header));
    parts.push_back(tcp::part(page(header.first), header.payload_bytes));
    for (std::uint32_t i = 0; i < header.count; ++i) session.mark(header.first + i);
    pages_.fetch_add(header.count, std::memory_order_relaxed);  // relaxed: a count
  }
  requests_.fetch_add(due.size(), std::memory_order_relaxed);  // relaxed: a count
  try {
    send_all(fd, parts);
  } catch (...) {
    session.answering.fetch_sub(1);
    throw;
  }
  session.answering.fetch_sub(1);
}

// Pages of the bitmap that were not sent yet, in order; requests of the same guest go first.
void SourceServer::push(Connection& connection, const wire::Parsed& asked, Session& session) {
  const int fd = connection.socket.get();
  const auto most =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(asked.header.count, shape_.largest_payload() / shape_.page_bytes));
  const auto bytes_per_s = static_cast<double>(asked.header.id);
  const auto is_wanted = [wanted = asked.payload](std::uint64_t page) {
    return (std::to_integer<unsigned>(wanted[page / 8]) >> (page % 8) & 1) != 0;
  };
  session.forget(asked.payload);
  const std::uint64_t began = Clock::monotonic_ns();
  double sent_bytes = 0.0;
  for (std::uint64_t at = 0; at < shape_.pages;) {
    if (!is_wanted(at) || !session.mark(at)) {
      ++at;
      continue;
    }
    for (int looks = 0; session.answering.load() != 0 && looks < kGiveWayTimes; ++looks)
      tcp::wait(stop_event_.get(), POLLIN, stop_event_.get(), kGiveWayNs);
    if (bytes_per_s > 0.0) {
      const auto due = began + static_cast<std::uint64_t>(sent_bytes / bytes_per_s * 1e9);
      const std::uint64_t now = Clock::monotonic_ns();
      // A peer may ask for a byte an hour; its connection is not kept until then when it has gone.
      if (due > now && tcp::wait(fd, POLLRDHUP, stop_event_.get(), due - now)) throw tcp::Ended();
    }
    PageRun run{at, 1};
    while (run.count < most && at + run.count < shape_.pages && is_wanted(at + run.count) && session.mark(at + run.count))
      ++run.count;
    send_pushed(connection, run);
    sent_bytes += static_cast<double>(run.count * shape_.page_bytes);
    at += run.count;
  }
  const wire::Header done = wire::header(wire::FrameType::pushed);
  std::array parts{tcp::part(&done, sizeof done)};
  send_all(fd, parts);
}

void SourceServer::send_pushed(Connection& connection, PageRun run) {
  const wire::Header header =
      wire::header(wire::FrameType::pages, static_cast<std::uint32_t>(run.count * shape_.page_bytes), run.count, 0, run.first);
  std::array parts{tcp::part(&header, sizeof header), tcp::part(page(run.first), header.payload_bytes)};
  send_all(connection.socket.get(), parts);
  pages_pushed_.fetch_add(run.count, std::memory_order_relaxed);  // relaxed: a count
  connection.active_ns.store(Clock::monotonic_ns());
}

// Wanted is what has not arrived: of what was sent before, that was lost with its connection.
void SourceServer::Session::forget(std::span<const std::byte> wanted) noexcept {
  for (std::size_t word = 0; word < sent.size(); ++word) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, wanted.data() + word * sizeof bits, std::min(sizeof bits, wanted.size() - word * sizeof bits));
    sent[word].fetch_and(~bits, std::memory_order_relaxed);  // relaxed: no contents hang on the bit; the source has them all
  }
}

}  // namespace uffd
