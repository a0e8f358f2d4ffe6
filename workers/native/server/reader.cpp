#include "server/reader.hpp"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <memory>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"
#include "resolve/poison.hpp"

namespace uffd {

namespace {

constexpr double kLookAgainNs = 20'000;      // how soon a page in somebody's hands is looked at again
constexpr std::uint32_t kLongestPause = 15;  // rounds without reading on, where it found nothing again and again

}  // namespace

Reader::Reader(PageServer& server, std::uint32_t index, ReaderInfo& info)
    : server_(server),
      guest_(server.guest_),
      counters_(*info.counters),
      seen_(info.seen),
      peers_(server.peers_of(index)),
      alone_(peers_.size() == 1 && server.config_.readers <= server.peers_.size()),
      messages_(server.config_.events_per_read),
      staging_(guest_.config().memory == MemoryType::anon ? guest_.config().page_bytes * guest_.config().fault_around_pages : 0),
      delay_(server.config_.delay_us, server.config_.delay_exponential, server.config_.seed + index),
      marking_(guest_.header().marking[index % SharedHeader::kReaderSlots]),
      look_again_(Clock::get().from_ns(kLookAgainNs)),
      dropping_(server.config_.seed ^ (index + 1)),
      wake_interval_(Clock::get().from_ns(server.config_.inject.wake_every_ms * 1e6)),
      wake_due_(wake_interval_ == 0 ? 0 : Clock::get().now() + wake_interval_) {
  for (const Peer* peer : peers_) polled_.push_back({peer->uffd.fd(), POLLIN, 0});
  if (server_.wait_ != Wait::epoll) return;
  epoll_ = Descriptor(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) throw KernelError("epoll_create1", errno);
  const auto add = [this](int fd, void* tag) {
    epoll_event event{.events = EPOLLIN | EPOLLEXCLUSIVE, .data = {.ptr = tag}};  // a fault wakes one reader, not all of them
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) throw KernelError("epoll_ctl", errno);
  };
  for (Peer* peer : peers_) add(peer->uffd.fd(), peer);
}

void Reader::serve() {
  ::prctl(PR_SET_TIMERSLACK, 1);  // a due time is kept to what the timers can, not to the default 50 us
  RemoteSource* const remote = server_.source_->remote();
  while (!server_.stopping_.load(std::memory_order_acquire)) {
    if (!jobs_.empty()) run_due();
    if (wake_due_ != 0 && Clock::get().now() >= wake_due_) wake_all();
    if (remote != nullptr) remote->flush();
    wait();
  }
  for (; !jobs_.empty(); jobs_.pop()) counters_[Counter::events_dropped] += jobs_.top().step != Step::discard;
}

[[gnu::hot]] void Reader::wait() {
  timespec until_due{0, 0};
  const timespec* timeout = nullptr;
  if (!jobs_.empty() || wake_due_ != 0) {
    const Clock& clock = Clock::get();
    const Ticks now = clock.now();
    Ticks due = wake_due_;
    if (!jobs_.empty() && (due == 0 || jobs_.top().due < due)) due = jobs_.top().due;
    if (due > now) {
      const auto ns = clock.to_ns(due - now);
      until_due = {static_cast<time_t>(ns / kNanosecondsPerSecond), static_cast<long>(ns % kNanosecondsPerSecond)};
    }
    timeout = &until_due;
  }
  switch (server_.wait_) {
    case Wait::spin:
      if (server_.spins(false))
        for (Peer* peer : peers_) read_events(*peer);
      else
        poll_once(timeout);
      break;
    case Wait::poll:
      if (!read_on()) poll_once(timeout);
      break;
    case Wait::epoll:
      if (!read_on()) epoll_once(timeout);
      break;
  }
}

// The next event is often there before the last is done with: a vCPU that is woken on this CPU runs at once, and touches its
// next page. Then a read alone will do, unless other readers want the same lock. Each time it is not there, twice as many rounds
// go by before the next such read.
[[gnu::hot]] bool Reader::read_on() {
  if (!alone_) return false;
  if (waits_first_ != 0) {
    --waits_first_;
    return false;
  }
  const bool any = read_events(*peers_[0]);
  pause_ = any ? 0 : std::min(2 * pause_ + 1, kLongestPause);
  waits_first_ = pause_;
  return any;
}

// The userfaultfds alone are waited for: whatever else were in the set would be polled at every fault.
[[gnu::hot]] void Reader::poll_once(const timespec* timeout) {
  if (::ppoll(polled_.data(), polled_.size(), timeout, nullptr) <= 0) return;
  for (std::size_t i = 0; i < polled_.size(); ++i)
    if (polled_[i].revents & POLLIN) read_events(*peers_[i]);
}

void Reader::epoll_once(const timespec* timeout) {
  std::array<epoll_event, 16> ready;
  const int count = ::epoll_pwait2(epoll_.get(), ready.data(), static_cast<int>(ready.size()), timeout, nullptr);
  for (int i = 0; i < count; ++i) read_events(*static_cast<Peer*>(ready[static_cast<std::size_t>(i)].data.ptr));
}

[[gnu::hot]] bool Reader::read_events(Peer& peer) {
  const bool tracks = server_.config_.track_removes;
  if (tracks) marking_.fetch_add(1, std::memory_order_seq_cst);
  const ssize_t bytes = ::read(peer.uffd.fd(), messages_.data(), messages_.size() * sizeof(uffd_msg));
  if (tracks) mark_removes(peer, bytes > 0 ? static_cast<std::size_t>(bytes) / sizeof(uffd_msg) : 0);
  if (bytes <= 0) {
    ++counters_[Counter::reads_empty];  // nothing is left, another reader was faster, or the other process is gone
    return false;
  }
  ++counters_[Counter::reads];
  std::uint16_t cpu = 0;
  const Ticks delivered = Clock::get().now_and_cpu(cpu);
  seen_.add(cpu);
  const std::size_t count = static_cast<std::size_t>(bytes) / sizeof(uffd_msg);
  for (std::size_t i = 0; i < count; ++i) {
    const uffd_msg& message = messages_[i];
    if (message.event != UFFD_EVENT_PAGEFAULT) {
      if (message.event != UFFD_EVENT_REMOVE) ++counters_[Counter::unknown_events];
      continue;
    }
    const std::uint64_t address = message.arg.pagefault.address;
    const auto region = std::find_if(peer.regions.begin(), peer.regions.end(), [address](const RegionView& view) {
      return address - view.base_host_virt_addr < view.size;
    });
    if (region == peer.regions.end()) {
      ++counters_[Counter::unknown_events];
      continue;
    }
    ++counters_[Counter::events];
    const std::uint64_t page = (region->offset + address - region->base_host_virt_addr) / guest_.config().page_bytes;
    const std::uint32_t vcpu = vcpu_of(message.arg.pagefault.feat.ptid);
    const double dropped = server_.config_.inject.drop_events_share;
    if (dropped > 0.0 && dropping_.unit() < dropped) {
      ++counters_[Counter::events_dropped];
      continue;
    }
    const bool minor = (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR) != 0;
    Event event{&peer, page, vcpu, record_of(peer, vcpu, page), delivered, minor};
    if (event.record != nullptr) event.record->delivered.store(delivered, std::memory_order_release);
    if (vcpu != kNobody && guest_.header().exits.load(std::memory_order_relaxed) != 0) {
      const bool populating = guest_.vcpu(vcpu).stage.load(std::memory_order_relaxed) == Stage::populating;
      ++counters_[populating ? Counter::populate_waits : Counter::stray_waits];
      if (!populating) guest_.vcpu(vcpu).stray_waits.fetch_add(1, std::memory_order_relaxed);
    }
    if (vcpu == kNobody) ++counters_[Counter::device_waits];
    if (server_.config_.inject.vanish_after_events != 0 && ++taken_ > server_.config_.inject.vanish_after_events) {
      counters_[Counter::events_dropped] += 1 + jobs_.size();
      jobs_ = {};
      vanish();
      return true;
    }
    handle(event);
  }
  return true;
}

void Reader::wake_all() noexcept {
  for (const Peer* peer : peers_)
    for (const RegionView& view : peer->regions) {
      ++counters_[Counter::wakes];
      peer->uffd.wake(view.base_host_virt_addr, view.size);
    }
  wake_due_ = Clock::get().now() + wake_interval_;
}

// In place, so that no other file gets the number while somebody still uses it: an eventfd is never readable unless rung.
void Reader::vanish() {
  const Descriptor silent(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!silent.valid()) throw KernelError("eventfd", errno);
  for (const Peer* peer : peers_)
    if (::dup3(silent.get(), peer->uffd.fd(), O_CLOEXEC) < 0) throw KernelError("dup3 over a userfaultfd", errno);
}

// The dropper has gone on inside our read(2) already: until this is done whoever finds a page gone that is said to be resolved
// waits (Guest::wait_for_removes). So it comes before any fault of the batch, and waits for nobody.
void Reader::mark_removes(Peer& peer, std::size_t messages) {
  const std::uint64_t page_bytes = guest_.config().page_bytes;
  for (std::size_t i = 0; i < messages; ++i) {
    if (messages_[i].event != UFFD_EVENT_REMOVE) continue;
    ++counters_[Counter::removes];
    const auto& removed = messages_[i].arg.remove;
    for (const RegionView& region : peer.regions) {
      const std::uint64_t first = std::max<std::uint64_t>(removed.start, region.base_host_virt_addr);
      const std::uint64_t end = std::min<std::uint64_t>(removed.end, region.base_host_virt_addr + region.size);
      for (std::uint64_t at = first; at < end; at += page_bytes)
        discard({&peer, (region.offset + at - region.base_host_virt_addr) / page_bytes, kNobody, nullptr, 0});
    }
  }
  marking_.fetch_add(1, std::memory_order_release);
}

void Reader::discard(const Event& event) {
  if (event.peer->resolver->record().discard(event.page))
    ++counters_[Counter::pages_discarded];
  else
    later({0, 0, Step::discard, event, {}, {}}, look_again_);
}

[[gnu::hot]] std::uint32_t Reader::vcpu_of(std::uint32_t tid) {
  const auto find = [this, tid] { return std::find(tids_.begin(), tids_.end(), tid); };
  auto found = find();
  if (found == tids_.end()) {  // not seen before: the vCPUs say who they are when they start
    tids_.resize(guest_.config().vcpus);
    for (std::uint32_t i = 0; i < guest_.config().vcpus; ++i) tids_[i] = guest_.vcpu(i).tid.load(std::memory_order_acquire);
    found = find();
  }
  return tid == 0 || found == tids_.end() ? kNobody : static_cast<std::uint32_t>(found - tids_.begin());
}

// The vCPU sleeps, so the slot it named before it touched is the one of this fault, unless somebody else's resolve has
// woken it meanwhile: then the slot may be another page's, and the check says so. A slot is never used twice in a run, so a
// store that comes late spoils nothing.
[[gnu::hot]] FaultRecord* Reader::record_of(const Peer& peer, std::uint32_t vcpu, std::uint64_t page) const noexcept {
  if (vcpu == kNobody || peer.faults.data() == nullptr) return nullptr;
  const std::uint32_t per_vmm = guest_.config().vcpus_per_vmm;
  if (static_cast<std::uint32_t>(peer.vmm) != vcpu / per_vmm) return nullptr;
  const std::uint64_t slot = guest_.vcpu(vcpu).slot.load(std::memory_order_acquire);
  if (slot >= peer.slots_per_vcpu) return nullptr;
  FaultRecord* record = reinterpret_cast<FaultRecord*>(peer.faults.data()) + (vcpu % per_vmm) * peer.slots_per_vcpu + slot;
  return record->page.load(std::memory_order_relaxed) == static_cast<std::uint32_t>(page) ? record : nullptr;
}

void Reader::later(Job job, Ticks delay) {
  job.due = Clock::get().now() + delay;
  jobs_.push(std::move(job));
}

[[gnu::hot]] void Reader::handle(const Event& event) {
  const Resolver& resolver = *event.peer->resolver;
  const PageRun claimed = resolver.claim(event.page, server_.claim_);
  if (claimed.count == 0) {
    PageState state = resolver.record().state(event.page);
    if (state == PageState::resolved && server_.config_.track_removes) {
      guest_.wait_for_removes();
      state = resolver.record().state(event.page);
    }
    if (state == PageState::in_flight || state == PageState::unresolved || state == PageState::discarded) {
      ++counters_[Counter::deferred];
      later({0, 0, Step::look, event, {}, {}}, look_again_);
      return;
    }
    if (state == PageState::poisoned) {  // by somebody faster: who is woken meets the poison
      ++counters_[Counter::events_lost];
      resolver.wake(event.page, counters_);
    } else {
      install_again(event);
    }
    return;
  }
  const bool believed = event.minor && claimed.count == 1 && !server_.config_.inject.contents_bit;
  const bool here = staging_.empty() && (believed || server_.source_->complete(claimed));
  if (here) {
    if (event.record != nullptr) event.record->fetched.store(event.seen, std::memory_order_relaxed);
    install(event, claimed, nullptr);
    return;
  }
  const PageRun run = around_poison(guest_, claimed, event.page);
  if (run.count != claimed.count) resolver.release_rest(claimed, run);
  Job job{0, Clock::get().now(), Step::put, event, run, {}};
  if (staging_.empty() && !poisoned_at_source(guest_, event.page)) server_.source_->take(run, job.mine);
  if (delay_.none()) {
    advance(std::move(job));
  } else {
    later(std::move(job), Clock::get().from_ns(delay_.next_ns()));
  }
}

void Reader::advance(Job job) {
  switch (job.step) {
    case Step::look:
      job.event.seen = Clock::get().now();
      handle(job.event);
      return;
    case Step::put:
      if (!delay_.none()) {
        ++counters_[Counter::delays];
        counters_[Counter::delay_ns] += Clock::get().to_ns(Clock::get().now() - job.began);
      }
      if (poisoned_at_source(guest_, job.event.page)) {
        poison(job.event);
        return;
      }
      if (server_.source_->remote() != nullptr) {
        fetch(job);
        return;
      }
      if (!staging_.empty()) {
        if (!server_.source_->make(job.run, staging_.data())) {
          ++counters_[Counter::events_dropped];
          return;
        }
        counters_[Counter::fetched_pages] += job.run.count;
        install(job.event, job.run, staging_.data());
        return;
      }
      for (std::uint32_t i = 0; i < job.run.count; ++i) {
        if (!job.mine[i]) continue;
        server_.source_->put(job.run.first + i);
        ++counters_[Counter::fetched_pages];
      }
      [[fallthrough]];
    case Step::install:
      if (server_.source_->complete(job.run)) {
        install(job.event, job.run, nullptr);
        return;
      }
      job.step = Step::install;  // another thread fetches some page of it
      later(std::move(job), look_again_);
      return;
    case Step::discard: discard(job.event); return;
  }
}

// A remote source: the fault is finished on the thread that its last page arrives on, and this one goes on to the next event.
void Reader::fetch(const Job& job) {
  const auto contents =
      std::make_shared<std::vector<std::byte>>(staging_.empty() ? 0 : job.run.count * guest_.config().page_bytes);
  const auto done = [&guest = guest_, event = job.event, run = job.run, contents](Counters& counters) {
    // No reader's thread, so remove events are read meanwhile. Who is woken unanswered faults again, and is answered anew.
    const auto end = install(guest, event, run, contents->empty() ? nullptr : contents->data(), counters, Resolver::kTries);
    if (end != Installed::End::changing && end != Installed::End::gone) return;
    ++counters[Counter::events_dropped];
    event.peer->resolver->wake(event.page, counters);
  };
  if (!server_.source_->remote()->fetch(job.run, job.mine, contents->empty() ? nullptr : contents->data(), done))
    install(job.event, job.run, nullptr);
}

// Resolved before: usually another's resolve was faster (EEXIST, and the sleeper is woken); reclaimed memory is installed
// once more.
void Reader::install_again(const Event& event) {
  const std::byte* from = nullptr;
  if (!staging_.empty() && server_.source_->remote() != nullptr) {
    const auto contents = std::make_shared<std::vector<std::byte>>(guest_.config().page_bytes);
    const auto done = [&guest = guest_, event, contents](Counters& counters) {
      const Install how{.wanted = event.page,
                        .from = contents->data(),
                        .wake = true,
                        .known = Known::resolved_before,
                        .tries = Resolver::kOnce};
      const Installed installed = event.peer->resolver->install({event.page, 1}, how, counters);
      count_again(guest, event, installed, counters);
      // Not installed: a sleeper that is woken faults again, and is answered anew.
      if (installed.end != Installed::End::mapped) event.peer->resolver->wake(event.page, counters);
    };
    server_.source_->remote()->fetch({event.page, 1}, {}, contents->data(), done);
    return;
  }
  if (!staging_.empty()) {
    if (!server_.source_->make({event.page, 1}, staging_.data())) {
      ++counters_[Counter::events_dropped];
      return;
    }
    from = staging_.data();
  }
  const Install how{.wanted = event.page, .from = from, .wake = true, .known = Known::resolved_before, .tries = Resolver::kOnce};
  const Installed installed = event.peer->resolver->install({event.page, 1}, how, counters_);
  if (installed.end == Installed::End::gone)
    refetch(event, {event.page, 1});
  else if (installed.end == Installed::End::changing)
    later({0, 0, Step::look, event, {}, {}}, look_again_);
  else
    count_again(guest_, event, installed, counters_);
}

// `installed` is the event's answer.
void Reader::count_again(const Guest& guest, const Event& event, const Installed& installed, Counters& counters) {
  if (event.record != nullptr && installed.pages != 0) {
    const Ticks now = Clock::get().now();
    event.record->fetched.store(event.record->delivered.load(std::memory_order_relaxed), std::memory_order_relaxed);
    event.record->installed.store(now, std::memory_order_relaxed);
  }
  if (installed.pages != 0)
    ++counters[Counter::resolved_again];
  else
    ++counters[installed.lost ? Counter::events_lost : Counter::events_dropped];
  if (installed.end == Installed::End::refused) guest.stop(event.peer->resolver->refusal({event.page, 1}, installed));
}

void Reader::poison(const Event& event) {
  const Installed poisoned = event.peer->resolver->poison(event.page, true, counters_);
  if (poisoned.end == Installed::End::changing) {
    later({0, 0, Step::look, event, {}, {}}, look_again_);
    return;
  }
  if (event.record != nullptr) event.record->installed.store(Clock::get().now(), std::memory_order_relaxed);
  ++counters_[poisoned.pages != 0 ? Counter::events_poisoned : poisoned.lost ? Counter::events_lost : Counter::events_dropped];
  if (poisoned.pages != 0) server_.poison_in_others(event.page, counters_);
  if (poisoned.end == Installed::End::refused) guest_.stop(event.peer->resolver->refusal({event.page, 1}, poisoned));
}

[[gnu::hot]] void Reader::install(const Event& event, const PageRun& run, const std::byte* from) {
  // A remove event that is pending may be ours to read: nothing is waited for here.
  const Installed::End end = install(guest_, event, run, from, counters_, Resolver::kOnce);
  if (end == Installed::End::changing) later({0, 0, Step::look, event, {}, {}}, look_again_);
  if (end == Installed::End::gone) refetch(event, run);
}

void Reader::refetch(const Event& event, const PageRun& run) {
  ++counters_[Counter::contents_lost];
  for (std::uint32_t i = 0; i < run.count; ++i) server_.source_->lost(run.first + i);
  later({0, 0, Step::look, event, {}, {}}, 0);
}

[[gnu::hot]] Installed::End Reader::install(const Guest& guest, const Event& event, const PageRun& run, const std::byte* from,
                                            Counters& counters, int tries) {
  const Clock& clock = Clock::get();
  if (event.record != nullptr && event.record->fetched.load(std::memory_order_relaxed) == 0)
    event.record->fetched.store(clock.now(), std::memory_order_relaxed);
  const Resolver& resolver = *event.peer->resolver;
  const Installed installed = resolver.install(run, {.wanted = event.page, .from = from, .wake = true, .tries = tries}, counters);
  if (event.record != nullptr) event.record->installed.store(clock.now(), std::memory_order_relaxed);
  if (installed.pages != 0 && event.vcpu != kNobody)
    guest.vcpu(event.vcpu).resolved_by_reader.fetch_add(installed.pages - installed.again, std::memory_order_relaxed);
  if (event.vcpu == kNobody) counters[Counter::device_resolved] += installed.pages - installed.again;
  switch (installed.end) {
    case Installed::End::changing:
    case Installed::End::gone: break;
    case Installed::End::mapped: ++counters[Counter::events_resolved]; break;
    case Installed::End::vanished: ++counters[Counter::events_dropped]; break;
    case Installed::End::refused: ++counters[Counter::events_dropped]; guest.stop(resolver.refusal(run, installed));
  }
  return installed.end;
}

// What is due now and no more: a job that puts itself off is due again before a slow machine has come round to the others, and
// the reader would neither read nor see that it is to stop.
void Reader::run_due() {
  const Ticks now = Clock::get().now();
  while (!jobs_.empty() && jobs_.top().due <= now) {
    Job job = jobs_.top();
    jobs_.pop();
    advance(std::move(job));
  }
}

}  // namespace uffd
