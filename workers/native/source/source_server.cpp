#include "source/source_server.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <exception>

#include "kernel/clock.hpp"
#include "kernel/error.hpp"
#include "kernel/thread.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kIdleNs = 60'000'000'000;  // how long a wait without anything due lasts
constexpr std::uint64_t kMostBitmaps = 8;          // that there is room for, whatever the size of the region

Mapping filled(const SourceServerConfig& config) {
  Mapping memory = Mapping::anonymous(config.region_bytes, kHugePageBytes);
  const Contents contents(config.seed, config.page_bytes);
  const std::uint64_t pages = config.region_bytes / config.page_bytes;
  const std::uint64_t threads = std::clamp<std::uint64_t>(std::thread::hardware_concurrency(), 1, 16);
  JoinedThreads filling;
  for (std::uint64_t i = 0; i < threads; ++i)
    filling.start("the source is not filled: its thread " + std::to_string(i), [&, i] {
      for (std::uint64_t page = pages * i / threads; page < pages * (i + 1) / threads; ++page)
        contents.fill(page, memory.data() + page * config.page_bytes);
    });
  filling.join();
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
      stop_event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      room_(config.buffer_bytes + kMostBitmaps * shape_.bitmap_bytes()) {
  if (!stop_event_.valid()) throw KernelError("eventfd", errno);
  port_ = tcp::port_of(listener_.get());
  memory_ = filled(config_);
  accepting_ = start_thread("the source: its accepting thread", [this] { accept_all(); });
}

SourceServer::~SourceServer() { stop(); }

void SourceServer::stop() noexcept {
  stopping_.store(true);
  const std::uint64_t one = 1;
  (void)!::write(stop_event_.get(), &one, sizeof one);
  if (accepting_.joinable()) accepting_.join();
  // From here on no connection is added.
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
      add(std::move(socket));
    }
  } catch (const tcp::Stopped&) {
  }
}

void SourceServer::add(Descriptor socket) {
  const int fd = socket.get();
  tcp::prepare(fd);
  try {
    if (!make_room()) turn_away(fd, "more than " + std::to_string(config_.connections) + " connections at once");
    auto connection = std::make_unique<Connection>();
    connection->socket = std::move(socket);
    connection->active_ns.store(Clock::monotonic_ns());
    const auto work = [this, one = connection.get()] {
      serve(*one);
      const std::lock_guard lock(mutex_);  // stop() may be shutting it down
      one->socket.reset();
      one->ended.store(true);
    };
    try {
      connection->thread = start_thread("a thread for the connection", work);
    } catch (const KernelError& error) {
      turn_away(fd, error.what());
    }
    const std::lock_guard lock(mutex_);
    connections_.push_back(std::move(connection));
  } catch (const tcp::Lost& lost) {
    refuse(lost.what());
  } catch (const std::bad_alloc&) {
    refuse("no memory for one more connection");
  }
}

// False: every connection there may be is there, and none has been silent for long enough to be ended.
bool SourceServer::make_room() {
  const auto ended = [](const auto& connection) {
    if (!connection->ended.load()) return false;
    connection->thread.join();
    return true;
  };
  std::erase_if(connections_, ended);
  if (connections_.size() < config_.connections) return true;
  const auto idle = std::min_element(connections_.begin(), connections_.end(), [](const auto& one, const auto& other) {
    return one->active_ns.load() < other->active_ns.load();
  });
  const auto idle_ns = static_cast<std::uint64_t>(config_.idle_s * 1e9);
  if (idle == connections_.end() || Clock::monotonic_ns() - (*idle)->active_ns.load() < idle_ns) return false;
  {
    const std::lock_guard lock(mutex_);
    if ((*idle)->socket.valid()) tcp::shut_down((*idle)->socket.get());
  }
  (*idle)->thread.join();
  connections_.erase(idle);
  return true;
}

/// Refuses a peer in words, if it takes them at once.
void SourceServer::turn_away(int fd, const std::string& why) const {
  const wire::Header header = wire::header(wire::FrameType::refused, static_cast<std::uint32_t>(why.size()));
  std::array parts{tcp::part(&header, sizeof header), tcp::part(why.data(), why.size())};
  tcp::send_all(fd, parts, stop_event_.get(), 0);
  throw tcp::Lost(why);
}

}  // namespace uffd
