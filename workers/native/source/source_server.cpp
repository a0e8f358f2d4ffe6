#include "source/source_server.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <deque>
#include <exception>

#include "kernel/clock.hpp"
#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

constexpr std::size_t kMostConnections = 256;
constexpr std::size_t kMostOutstanding = 1 << 17;
constexpr std::uint64_t kHelloNs = 10'000'000'000;    // how long a peer may take to say who it is
constexpr std::uint64_t kStalledNs = 30'000'000'000;  // how long a peer may take nothing of what is sent to it
constexpr std::uint64_t kIdleNs = 60'000'000'000;     // how long a wait without anything due lasts
constexpr std::uint64_t kGiveWayNs = 50'000;          // how often a push looks whether requests are being answered
constexpr int kGiveWayTimes = 40;                     // ... and after how many looks it goes on: a push never starves
constexpr std::uint64_t kHugePageBytes = 2 << 20;

iovec part(const void* data, std::size_t bytes) { return {const_cast<void*>(data), bytes}; }

Mapping filled(const SourceServerConfig& config) {
  Mapping memory = Mapping::anonymous(config.region_bytes, kHugePageBytes);
  const Contents contents(config.seed, config.page_bytes);
  const std::uint64_t pages = config.region_bytes / config.page_bytes;
  const std::uint64_t threads = std::clamp<std::uint64_t>(std::thread::hardware_concurrency(), 1, 16);
  std::vector<std::thread> filling;
  for (std::uint64_t i = 0; i < threads; ++i)
    filling.emplace_back([&, i] {
      for (std::uint64_t page = pages * i / threads; page < pages * (i + 1) / threads; ++page)
        contents.fill(page, memory.data() + page * config.page_bytes);
    });
  for (std::thread& thread : filling) thread.join();
  return memory;
}

void check(const SourceServerConfig& config) {
  if (config.page_bytes < kBasePageBytes || !std::has_single_bit(config.page_bytes))
    throw ConfigError("page_bytes must be a power of two of at least 4096");
  if (config.region_bytes == 0 || config.region_bytes % config.page_bytes != 0)
    throw ConfigError("region_bytes must be a positive multiple of page_bytes");
  if (!(config.rtt_us >= 0.0)) throw ConfigError("rtt_us must not be negative");
}

}  // namespace

SourceServer::SourceServer(const SourceServerConfig& config)
    : config_((check(config), config)),
      shape_{config.region_bytes / config.page_bytes, config.page_bytes},
      listener_(tcp::listen_at(tcp::resolve(config.host, config.port, true))),
      stop_event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!stop_event_.valid()) throw KernelError("eventfd", errno);
  port_ = tcp::port_of(listener_.get());
  memory_ = filled(config_);
  accepting_ = std::thread([this] { accept_all(); });
}

SourceServer::~SourceServer() { stop(); }

void SourceServer::stop() noexcept {
  stopping_.store(true);
  const std::uint64_t one = 1;
  (void)!::write(stop_event_.get(), &one, sizeof one);
  if (accepting_.joinable()) accepting_.join();
  // Nobody adds a connection any more.
  {
    const std::lock_guard lock(mutex_);
    for (const auto& connection : connections_)
      if (connection->socket.valid()) tcp::shut_down(connection->socket.get());
  }
  for (const auto& connection : connections_)
    if (connection->thread.joinable()) connection->thread.join();
  connections_.clear();
}

Served SourceServer::served() const {
  const std::lock_guard lock(mutex_);
  Served served = served_;
  served.requests = requests_.load();
  served.pages = pages_.load();
  served.pages_pushed = pages_pushed_.load();
  return served;
}

void SourceServer::refuse(const std::string& why) {
  const std::lock_guard lock(mutex_);
  ++served_.refused;
  served_.last_refusal = why;
}

void SourceServer::accept_all() {
  try {
    while (!stopping_.load()) {
      tcp::wait(listener_.get(), POLLIN, stop_event_.get(), kIdleNs);
      Descriptor socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!socket.valid()) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {  // out of descriptors: wait, do not spin
          refuse(std::string("not accepted for now: ") + std::strerror(errno));
          tcp::wait(stop_event_.get(), POLLIN, stop_event_.get(), 100'000'000);
        }
        continue;
      }
      tcp::prepare(socket.get());
      std::erase_if(connections_, [](const auto& old) {
        if (!old->ended.load()) return false;
        old->thread.join();
        return true;
      });
      if (connections_.size() >= kMostConnections) {
        refuse("more than " + std::to_string(kMostConnections) + " connections at once");
        continue;
      }
      auto connection = std::make_unique<Connection>();
      connection->socket = std::move(socket);
      connection->thread = std::thread([this, one = connection.get()] {
        serve(one->socket.get());
        const std::lock_guard lock(mutex_);  // stop() may be shutting it down
        one->socket.reset();
        one->ended.store(true);
      });
      connections_.push_back(std::move(connection));
    }
  } catch (const tcp::Stopped&) {
  }
}

// The first frame says whose pages are wanted; memory that is not here is refused in words, and so is a frame out of turn.
std::shared_ptr<SourceServer::Session> SourceServer::greet(int fd, tcp::Inbox& inbox) {
  const std::uint64_t deadline = Clock::monotonic_ns() + kHelloNs;
  wire::Parsed frame;
  while ((frame = wire::parse(inbox.view(), shape_, wire::Reader::source)).state == wire::Parsed::State::more) {
    const std::uint64_t now = Clock::monotonic_ns();
    if (now >= deadline || !tcp::wait(fd, POLLIN, stop_event_.get(), deadline - now)) throw tcp::Lost("it said nothing in time");
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
  if (!why.empty()) {
    const wire::Header header = wire::header(wire::FrameType::refused, static_cast<std::uint32_t>(why.size()));
    std::array parts{part(&header, sizeof header), part(why.data(), why.size())};
    tcp::send_all(fd, parts, stop_event_.get(), kStalledNs);
    throw tcp::Lost(why);
  }
  inbox.take(frame.bytes());
  const wire::Header header = wire::header(wire::FrameType::welcome);
  std::array parts{part(&header, sizeof header)};
  tcp::send_all(fd, parts, stop_event_.get(), kStalledNs);

  const std::lock_guard lock(mutex_);
  ++served_.connections;
  std::erase_if(sessions_, [](const auto& entry) { return entry.second.expired(); });
  std::shared_ptr<Session> session = sessions_[hello.session].lock();
  if (session == nullptr) sessions_[hello.session] = session = std::make_shared<Session>(shape_.pages);
  return session;
}

void SourceServer::serve(int fd) {
  ::prctl(PR_SET_TIMERSLACK, 1);  // an emulated round-trip time is kept to what the timers can
  tcp::Inbox inbox(sizeof(wire::Header) + std::max<std::uint64_t>({shape_.bitmap_bytes(), sizeof(wire::Hello), 64 << 10}));
  try {
    const std::shared_ptr<Session> session = greet(fd, inbox);
    const auto rtt_ns = static_cast<std::uint64_t>(config_.rtt_us * 1000.0);
    std::deque<Due> queue;  // in the order they came, which is the order they are due
    std::vector<Due> due;
    while (true) {
      const std::uint64_t came = Clock::monotonic_ns();
      for (wire::Parsed frame;; inbox.take(frame.bytes())) {
        frame = wire::parse(inbox.view(), shape_, wire::Reader::source);
        if (frame.state == wire::Parsed::State::more) break;
        if (frame.state == wire::Parsed::State::bad) throw tcp::Lost(frame.error);
        if (frame.type() == wire::FrameType::push) {
          if (rtt_ns != 0) tcp::wait(stop_event_.get(), POLLIN, stop_event_.get(), rtt_ns);
          push(fd, frame, *session);
        } else if (frame.type() == wire::FrameType::request) {
          if (queue.size() >= kMostOutstanding) throw tcp::Lost("too many requests without waiting for answers");
          queue.push_back({came + rtt_ns, frame.header});
        } else {
          throw tcp::Lost("a second hello");
        }
      }
      const std::uint64_t now = rtt_ns == 0 ? came : Clock::monotonic_ns();
      due.clear();
      for (; !queue.empty() && queue.front().at_ns <= now; queue.pop_front()) due.push_back(queue.front());
      if (!due.empty()) {
        answer(fd, due, *session);
        if (rtt_ns != 0) continue;  // time has passed
      }
      if (queue.empty()) {
        inbox.await(fd);
      } else {
        tcp::wait(fd, POLLIN, stop_event_.get(), queue.front().at_ns - now);
        inbox.receive(fd);
      }
    }
  } catch (const tcp::Ended& ended) {
    if (!inbox.view().empty()) refuse(ended.what());
  } catch (const tcp::Lost& lost) {
    refuse(lost.what());
  } catch (const tcp::Stopped&) {
  } catch (const std::exception& error) {
    refuse(error.what());
  }
}

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
    parts.push_back(part(&header, sizeof header));
    parts.push_back(part(page(header.first), header.payload_bytes));
    for (std::uint32_t i = 0; i < header.count; ++i) session.mark(header.first + i);
    pages_.fetch_add(header.count, std::memory_order_relaxed);
  }
  requests_.fetch_add(due.size(), std::memory_order_relaxed);
  try {
    tcp::send_all(fd, parts, stop_event_.get(), kStalledNs);
  } catch (...) {
    session.answering.fetch_sub(1);
    throw;
  }
  session.answering.fetch_sub(1);
}

void SourceServer::push(int fd, const wire::Parsed& asked, Session& session) {
  const std::vector<std::byte> wanted(asked.payload.begin(), asked.payload.end());
  const auto most =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(asked.header.count, shape_.largest_payload() / shape_.page_bytes));
  const auto bytes_per_s = static_cast<double>(asked.header.id);
  const auto is_wanted = [&wanted](std::uint64_t page) {
    return (std::to_integer<unsigned>(wanted[page / 8]) >> (page % 8) & 1) != 0;
  };
  // Wanted is what has not arrived: of what was sent before, that was lost with its connection.
  for (std::size_t word = 0; word < session.sent.size(); ++word) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, wanted.data() + word * sizeof bits, std::min(sizeof bits, wanted.size() - word * sizeof bits));
    session.sent[word].fetch_and(~bits, std::memory_order_relaxed);
  }
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
    std::uint32_t count = 1;
    while (count < most && at + count < shape_.pages && is_wanted(at + count) && session.mark(at + count)) ++count;
    const wire::Header header =
        wire::header(wire::FrameType::pages, static_cast<std::uint32_t>(count * shape_.page_bytes), count, 0, at);
    std::array parts{part(&header, sizeof header), part(page(at), header.payload_bytes)};
    tcp::send_all(fd, parts, stop_event_.get(), kStalledNs);
    pages_pushed_.fetch_add(count, std::memory_order_relaxed);
    sent_bytes += header.payload_bytes;
    at += count;
  }
  const wire::Header done = wire::header(wire::FrameType::pushed);
  std::array parts{part(&done, sizeof done)};
  tcp::send_all(fd, parts, stop_event_.get(), kStalledNs);
}

}  // namespace uffd
