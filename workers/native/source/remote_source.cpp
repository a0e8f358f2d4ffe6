#include "source/remote_source.hpp"

#include <sys/eventfd.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kernel/clock.hpp"
#include "kernel/error.hpp"
#include "kernel/thread.hpp"
#include "kernel/vocabulary.hpp"
#include "source/write_page.hpp"

namespace uffd {

namespace {

constexpr std::size_t kFramesAtOnce = 8;  // that are placed together: the first waits for the last of them

}  // namespace

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
    link->thread = start_thread(name_ + ": the thread of connection " + std::to_string(link->index),
                                [this, one = link.get()] { receive(*one); });
  }
}

void RemoteSource::receive(Link& link) {
  try {
    if (is_push(link))
      receive_push(link);
    else
      receive_answers(link);
  } catch (const tcp::Stopped&) {
  } catch (const std::exception& error) {
    guest_.stop(name_ + ": " + error.what());
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
  sum.rtt_p50_us = static_cast<double>(rtt_ns_.quantile(0.5)) / 1e3;
  return sum;
}

Counters RemoteSource::counters() const {
  Counters sum;
  for (const auto& link : links_) sum += *link->counters;
  return sum;
}

bool RemoteSource::fetch(const PageRun& run, const std::vector<bool>& mine, std::byte* to, Done done) {
  auto job = std::make_shared<Job>(Job{run, to, 0, std::move(done)});
  // relaxed: any turn will do
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
        wire::append(link.outbox, wire::header(wire::FrameType::request, 0, stretch->count, id, stretch->first));
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

/// Visits (index, frame, page, contents) of every page of the frames.
template <typename Visit>
void RemoteSource::each_page(std::span<const wire::Parsed> frames, const Visit& visit) const {
  std::size_t at = 0;
  for (const wire::Parsed& frame : frames)
    for (std::uint32_t i = 0; i < frame.header.count; ++i, ++at)
      visit(at, frame, frame.header.first + i, frame.payload.data() + i * shape().page_bytes);
}

// Pages that have arrived: written where they belong, declared complete, and then whatever waited for the last of them is
// finished. Declaring waits until the writing has reached memory, so frames that came together are written first and declared
// afterwards.
void RemoteSource::place(Link& link, std::span<const wire::Parsed> frames) {
  claim_arrived(link, frames);
  if (alias_ != nullptr) write_arrived(link, frames);
  const std::size_t placed = settle_arrived(link, frames);
  (is_push(link) ? link.counts.pushed : link.counts.on_demand) += placed;
  link.counts.twice += link.ours.size() - placed;
  (*link.counters)[Counter::fetched_pages] += placed;
  for (const auto& job : link.finished) job->done(*link.counters);
}

// Each page is written once: a second copy of it would run over what the guest has written since.
void RemoteSource::claim_arrived(Link& link, std::span<const wire::Parsed> frames) {
  std::size_t count = 0;
  for (const wire::Parsed& frame : frames) count += frame.header.count;
  std::vector<bool>& ours = link.ours;
  ours.assign(count, false);
  if (is_push(link)) {
    each_page(frames, [&](std::size_t at, const wire::Parsed&, std::uint64_t page, const std::byte*) {
      ours[at] = guest_.claim_fetch(page);
    });
    return;
  }
  const std::lock_guard lock(mutex_);
  each_page(frames, [&](std::size_t at, const wire::Parsed& frame, std::uint64_t page, const std::byte*) {
    const auto found = awaited_.find(page);
    if (found == awaited_.end() || found->second.request != frame.header.id || found->second.placing) return;
    ours[at] = found->second.placing = true;
  });
}

void RemoteSource::write_arrived(const Link& link, std::span<const wire::Parsed> frames) {
  each_page(frames, [&](std::size_t at, const wire::Parsed&, std::uint64_t page, const std::byte* data) {
    if (link.ours[at]) write_page(guest_, alias_, page, data);
  });
  each_page(frames, [&](std::size_t at, const wire::Parsed&, std::uint64_t page, const std::byte*) {
    if (link.ours[at]) guest_.set_complete(page);
  });
}

/// How many of the pages were ours to write; what waited for the last of them is in `link.finished`.
std::size_t RemoteSource::settle_arrived(Link& link, std::span<const wire::Parsed> frames) {
  std::size_t placed = 0;
  link.finished.clear();
  const std::lock_guard lock(mutex_);
  each_page(frames, [&](std::size_t at, const wire::Parsed& frame, std::uint64_t page, const std::byte* data) {
    if (!link.ours[at]) return;
    ++placed;
    if (!is_push(link)) answered(link, frame.header.id);
    const auto found = awaited_.find(page);
    if (found == awaited_.end()) return;  // pushed, and nothing waits for it
    const auto arrived = [&](const std::shared_ptr<Job>& job) {
      if (job->to != nullptr) std::memcpy(job->to + (page - job->run.first) * shape().page_bytes, data, shape().page_bytes);
      if (--job->left == 0) link.finished.push_back(job);
    };
    arrived(found->second.first);
    for (const auto& job : found->second.others) arrived(job);
    awaited_.erase(found);
  });
  return placed;
}

/// One page of a request has come. The lock is held.
void RemoteSource::answered(const Link& link, std::uint64_t id) {
  const auto request = requests_.find(id);
  if (request == requests_.end() || --request->second.left != 0) return;
  rtt_ns_.add(link.heard_ns - std::min(link.heard_ns, request->second.sent_ns), 1);
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
        wrong = "it sent what was not asked for";
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

}  // namespace uffd
