#include "source/remote_source.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "kernel/clock.hpp"
#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kReconnectNs = 50'000'000;   // between two tries to reach a source that refuses
constexpr std::uint64_t kLongestNs = 100'000'000;    // how long a wait sleeps before it looks at the time
constexpr std::uint64_t kStalledNs = 2'000'000'000;  // how long the source may take nothing of a bitmap
constexpr std::size_t kFramesAtOnce = 8;             // that are placed together: the first waits for the last of them

void append(std::vector<std::byte>& to, const wire::Header& header) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&header);
  to.insert(to.end(), bytes, bytes + sizeof header);
}

std::string seconds(std::uint64_t ns) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", static_cast<double>(ns) / 1e9);
  return text;
}

}  // namespace

std::size_t RttHistogram::bucket(std::uint64_t ns) noexcept {
  if (ns < kSteps) return ns;
  const int exponent = std::bit_width(ns) - 6;  // the five bits after the first are the step
  return static_cast<std::size_t>(exponent + 1) * kSteps + (ns >> exponent) - kSteps;
}

double RttHistogram::p50_us() const noexcept {
  std::uint64_t total = 0, seen = 0;
  for (const std::uint64_t count : buckets_) total += count;
  for (std::size_t i = 0; i < buckets_.size() && total != 0; ++i) {
    seen += buckets_[i];
    if (2 * seen < total) continue;
    if (i < kSteps) return static_cast<double>(i) / 1000.0;
    const auto exponent = static_cast<int>(i / kSteps) - 1;
    return std::ldexp(static_cast<double>(i % kSteps + kSteps) + 0.5, exponent) / 1000.0;
  }
  return 0.0;
}

RemoteSource::RemoteSource(const Guest& guest, std::byte* alias, const RemoteSourceConfig& config)
    : guest_(guest),
      alias_(alias),
      config_(config),
      name_("the source at " + config.host + ":" + std::to_string(config.port)),
      address_(tcp::resolve(config.host, config.port, false)),
      timeout_ns_(static_cast<std::uint64_t>(config.timeout_s * 1e9)),
      stop_event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (config_.connections == 0 || config_.connections > 64) throw ConfigError("source.connections must be from 1 to 64");
  if (config_.batch_pages == 0 || config_.batch_pages > wire::kMostPages)
    throw ConfigError("source.batch_pages must be from 1 to " + std::to_string(wire::kMostPages));
  if (!(config_.timeout_s > 0.0)) throw ConfigError("source.timeout_s must be positive");
  if (config_.push && alias_ == nullptr)
    throw ConfigError("pushed pages need a place before they are asked for, and anonymous memory has none: source.push=false");
  if (!stop_event_.valid()) throw KernelError("eventfd", errno);
  if (::getrandom(&session_, sizeof session_, 0) != sizeof session_) throw KernelError("getrandom", errno);
  const std::uint32_t count = config_.connections + (config_.push ? 1 : 0);
  for (std::uint32_t i = 0; i < count; ++i) {
    auto link = std::make_unique<Link>();
    link->index = i;
    if (const std::uint32_t at = config_.first_counters + i; at < guest_.config().server_threads)
      link->counters = &guest_.server_counters(at);
    try {
      link->socket = connect(Clock::monotonic_ns() + timeout_ns_);
    } catch (const tcp::Lost& lost) {
      throw ConfigError(name_ + " cannot be used: " + lost.what());
    }
    links_.push_back(std::move(link));
  }
}

RemoteSource::~RemoteSource() { stop(); }

void RemoteSource::start() {
  for (const auto& link : links_) {
    link->heard_ns = Clock::monotonic_ns();
    link->thread = std::thread([this, one = link.get()] {
      try {
        if (is_push(*one))
          receive_push(*one);
        else
          receive_answers(*one);
      } catch (const tcp::Stopped&) {
      } catch (const std::exception& error) {
        guest_.stop(name_ + ": " + error.what());
      }
    });
  }
}

void RemoteSource::stop() noexcept {
  stopping_.store(true, std::memory_order_release);
  const std::uint64_t one = 1;
  (void)!::write(stop_event_.get(), &one, sizeof one);
  for (const auto& link : links_) {
    {
      const std::lock_guard lock(link->mutex);
      if (link->socket.valid()) tcp::shut_down(link->socket.get());
    }
    if (link->thread.joinable()) link->thread.join();
  }
}

SourceCounts RemoteSource::counts() const {
  SourceCounts sum;
  for (const auto& link : links_) {
    sum.on_demand += link->counts.on_demand;
    sum.pushed += link->counts.pushed;
    sum.twice += link->counts.twice;
    sum.retries += link->counts.retries;
    sum.bytes += link->counts.bytes;
  }
  const std::lock_guard lock(mutex_);
  sum.requests = sent_requests_ + sum.retries;
  sum.rtt_p50_us = rtt_.p50_us();
  return sum;
}

Counters RemoteSource::counters() const {
  Counters sum;
  for (const auto& link : links_) sum += *link->counters;
  return sum;
}

// One connection, greeted.
Descriptor RemoteSource::connect(std::uint64_t deadline_ns) {
  const int stop = stop_event_.get();
  Descriptor socket = tcp::connect_to(address_, stop, deadline_ns);
  tcp::limit_await(socket.get(), kLongestNs);
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
      throw tcp::Lost("it did not say welcome within " + seconds(timeout_ns_));
    inbox.receive(socket.get());
  }
  if (frame.state == wire::Parsed::State::bad) throw tcp::Lost(frame.error);
  if (frame.type() == wire::FrameType::refused)
    throw tcp::Lost("it refused: " + std::string(reinterpret_cast<const char*>(frame.payload.data()), frame.payload.size()));
  if (frame.type() != wire::FrameType::welcome) throw tcp::Lost("it did not begin with a welcome");
  return socket;
}

bool RemoteSource::fetch(const PageRun& run, const std::vector<bool>& mine, std::byte* to, Done done) {
  auto job = std::make_shared<Job>(Job{run, to, 0, std::move(done)});
  Link& link = *links_[turn_.fetch_add(1, std::memory_order_relaxed) % config_.connections];
  const std::uint64_t now = Clock::monotonic_ns();
  const std::lock_guard sending(link.mutex);
  const bool connected = link.socket.valid();  // else its thread asks for everything once it has a connection again
  {
    const std::lock_guard lock(mutex_);
    Request* stretch = nullptr;  // the request that grows while pages to ask for follow each other
    std::uint64_t id = 0;
    const auto close = [&] {
      if (stretch != nullptr && connected)
        append(link.outbox, wire::header(wire::FrameType::request, 0, stretch->count, id, stretch->first));
      stretch = nullptr;
    };
    for (std::uint32_t i = 0; i < run.count; ++i) {
      const std::uint64_t page = run.first + i;
      const bool ask = to != nullptr || mine[i];
      // Looked at under the lock: who completes a page takes it afterwards, and finds us.
      if (!ask && guest_.complete(page)) {
        close();
        continue;
      }
      Awaited& awaited = awaited_[page];
      if (awaited.first == nullptr)
        awaited.first = job;
      else
        awaited.others.push_back(job);
      ++job->left;
      if (!ask || awaited.request != 0) {
        close();
        continue;
      }
      if (stretch != nullptr && stretch->count == wire::kMostPages) close();
      if (stretch == nullptr) {
        id = next_id_++;
        stretch = &(requests_[id] = {link.index, 0, 0, page, now, now});
        ++sent_requests_;
      }
      awaited.request = id;
      ++stretch->count;
      ++stretch->left;
    }
    close();
    if (job->left == 0) return false;
  }
  if (!link.outbox.empty()) link.waiting.store(true, std::memory_order_release);
  return true;
}

void RemoteSource::flush() noexcept {
  for (std::uint32_t i = 0; i < config_.connections; ++i) {
    Link& link = *links_[i];
    if (link.waiting.load(std::memory_order_acquire)) send_outbox(link);  // what the socket does not take, its thread sends
  }
}

void RemoteSource::send_outbox(Link& link) noexcept {
  const std::lock_guard lock(link.mutex);
  if (!link.socket.valid() || link.outbox.empty()) return;
  const ssize_t sent = ::send(link.socket.get(), link.outbox.data(), link.outbox.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) {
    link.outbox.clear();  // the connection is gone: its thread sees that too, and asks again
  } else if (sent > 0) {
    link.outbox.erase(link.outbox.begin(), link.outbox.begin() + sent);
  }
  link.waiting.store(!link.outbox.empty(), std::memory_order_release);
}

// Pages that have arrived: written where they belong, declared complete, and then whatever waited for the last of them is
// finished. Each page is written once: a second copy of it would run over what the guest has written since. Declaring waits
// until the writing has reached memory, so frames that came together are written first and declared afterwards.
void RemoteSource::place(Link& link, std::span<const wire::Parsed> frames) {
  const std::uint64_t page_bytes = shape().page_bytes;
  const bool pushed = is_push(link);
  const auto each = [&](const auto& visit) {
    std::size_t at = 0;
    for (const wire::Parsed& frame : frames)
      for (std::uint32_t i = 0; i < frame.header.count; ++i, ++at)
        visit(at, frame, frame.header.first + i, frame.payload.data() + i * page_bytes);
  };
  std::size_t count = 0, placed = 0;
  for (const wire::Parsed& frame : frames) count += frame.header.count;
  std::vector<bool>& ours = link.ours;
  ours.assign(count, false);
  link.finished.clear();
  if (pushed) {
    each([&](std::size_t at, const wire::Parsed&, std::uint64_t page, const std::byte*) { ours[at] = guest_.claim_fetch(page); });
  } else {
    const std::lock_guard lock(mutex_);
    each([&](std::size_t at, const wire::Parsed& frame, std::uint64_t page, const std::byte*) {
      const auto found = awaited_.find(page);
      if (found == awaited_.end() || found->second.request != frame.header.id || found->second.placing) return;
      ours[at] = found->second.placing = true;
    });
  }
  if (alias_ != nullptr) {
    each([&](std::size_t at, const wire::Parsed&, std::uint64_t page, const std::byte* data) {
      if (ours[at]) std::memcpy(alias_ + page * page_bytes, data, page_bytes);
    });
    each([&](std::size_t at, const wire::Parsed&, std::uint64_t page, const std::byte*) {
      if (ours[at]) guest_.set_complete(page);
    });
  }
  {
    const std::lock_guard lock(mutex_);
    each([&](std::size_t at, const wire::Parsed& frame, std::uint64_t page, const std::byte* data) {
      if (!ours[at]) return;
      ++placed;
      if (!pushed) answered(link, frame.header.id);
      const auto found = awaited_.find(page);
      if (found == awaited_.end()) return;  // pushed, and nobody waits for it
      const auto arrived = [&](const std::shared_ptr<Job>& job) {
        if (job->to != nullptr) std::memcpy(job->to + (page - job->run.first) * page_bytes, data, page_bytes);
        if (--job->left == 0) link.finished.push_back(job);
      };
      arrived(found->second.first);
      for (const auto& job : found->second.others) arrived(job);
      awaited_.erase(found);
    });
  }
  (pushed ? link.counts.pushed : link.counts.on_demand) += placed;
  link.counts.twice += count - placed;
  (*link.counters)[Counter::fetched_pages] += placed;
  for (const auto& job : link.finished) job->done(*link.counters);
}

/// One page of a request has come. The lock is held.
void RemoteSource::answered(const Link& link, std::uint64_t id) {
  const auto request = requests_.find(id);
  if (request == requests_.end() || --request->second.left != 0) return;
  rtt_.add(link.heard_ns - std::min(link.heard_ns, request->second.sent_ns));
  requests_.erase(request);
}

/// Places every frame that is whole. True once the source has pushed everything. Throws Lost at a frame that is out of place.
bool RemoteSource::take_frames(Link& link, tcp::Inbox& inbox) {
  const bool pushed = is_push(link);
  std::array<wire::Parsed, kFramesAtOnce> frames;
  while (true) {
    std::size_t count = 0;
    const char* wrong = nullptr;
    bool over = false;
    for (wire::Parsed frame; count < frames.size(); inbox.take(frame.bytes())) {
      frame = wire::parse(inbox.view(), shape(), wire::Reader::page_server);
      if (frame.state == wire::Parsed::State::more) break;
      if (frame.state == wire::Parsed::State::bad)
        wrong = frame.error;
      else if (pushed && frame.type() == wire::FrameType::pushed)
        over = true;
      else if (frame.type() != wire::FrameType::pages || (frame.header.id == 0) != pushed)
        wrong = "it sent what nobody asked for";
      if (over || wrong != nullptr) break;
      frames[count++] = frame;
    }
    if (count != 0) {
      link.lost_ns = 0;
      place(link, {frames.data(), count});
    }
    if (wrong != nullptr) throw tcp::Lost(wrong);
    if (over || count < frames.size()) return over;
  }
}

/// The next bytes of a connection that asks, or none for now. Answers make room for the rest of the requests.
std::size_t RemoteSource::more_answers(Link& link, tcp::Inbox& inbox) {
  const int fd = link.socket.get();
  if (!link.waiting.load(std::memory_order_acquire)) return inbox.await(fd);
  tcp::wait(fd, POLLIN | POLLOUT, stop_event_.get(), kLongestNs);
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
    append(link.outbox, wire::header(wire::FrameType::request, 0, request.count, id, request.first));
    request.sent_ns = now;
    ++link.counts.retries;
  }
  link.socket = std::move(socket);
  link.heard_ns = now;
  link.waiting.store(!link.outbox.empty(), std::memory_order_release);
}

// The thread of the push's connection: it begins with the measured phase, and ends when everything has been sent.
void RemoteSource::receive_push(Link& link) {
  FutexWord& released = guest_.header().released;
  while (released.load(std::memory_order_acquire) == 0) {
    if (stopping_.load(std::memory_order_acquire) || guest_.stopping()) return;
    futex_wait(released, 0, kLongestNs);
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
      if (tcp::wait(link.socket.get(), POLLIN, stop_event_.get(), kLongestNs)) {
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
  tcp::send_all(fd, parts, stop_event_.get(), kStalledNs);
}

}  // namespace uffd
