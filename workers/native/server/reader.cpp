#include "server/reader.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

constexpr double kLastNs = 200'000'000;      // how long a page server that ends answers what is raised meanwhile
constexpr std::uint32_t kLongestPause = 15;  // rounds without reading on, where it found nothing again and again

}  // namespace

Reader::Reader(ServerState& server, ThreadInfo& thread, std::uint32_t index)
    : server_(server),
      guest_(server.guest),
      counters_(*thread.counters),
      seen_(thread.seen),
      peers_(server.peers_of(index)),
      alone_(peers_.size() == 1 && server.config.readers <= server.peers.size()),
      messages_(server.config.events_per_read),
      answers_(server, thread, index),
      vcpus_(guest_),
      answering_(guest_.header().answering[index % SharedHeader::kAnsweringSlots]),
      marking_(guest_.marking()[index]),
      dropping_(server.config.seed ^ (index + 1)),
      wake_interval_(Clock::get().from_ns(server.config.inject.wake_every_ms * 1e6)),
      wake_due_(wake_interval_ == 0 ? 0 : Clock::get().now() + wake_interval_) {
  for (const Peer* peer : peers_) polled_.push_back({peer->uffd().fd(), POLLIN, 0});
  if (server_.wait != Wait::epoll) return;
  epoll_ = Descriptor(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) throw KernelError("epoll_create1", errno);
  for (Peer* peer : peers_) {
    epoll_event event{.events = EPOLLIN | EPOLLEXCLUSIVE, .data = {.ptr = peer}};  // a fault wakes one reader, not all of them
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, peer->uffd().fd(), &event) != 0) throw KernelError("epoll_ctl", errno);
  }
}

void Reader::serve() {
  ::prctl(PR_SET_TIMERSLACK, 1);  // a due time is kept to what the timers can, not to the default 50 us
  RemoteSource* const remote = server_.source->remote();
  while (!server_.stops()) {
    if (!answers_.none()) {
      const auto installing = server_.installing();
      answers_.run_due();
      end_answering();
    }
    if (wake_due_ != 0 && Clock::get().now() >= wake_due_) wake_all();
    if (remote != nullptr) remote->flush();
    wait();
  }
  if (server_.mapped() != nullptr) answer_the_last();
  counters_[Counter::events_dropped] += answers_.drop();
}

// Faults of a foreign VMM that were raised by now are answered, and what is left is raised again: for a successor to read.
void Reader::answer_the_last() {
  const Clock& clock = Clock::get();
  bool any = true;
  for (const Ticks until = clock.now() + clock.from_ns(kLastNs); any && clock.now() < until;) {
    any = false;
    for (Peer* peer : peers_) any |= read_events(*peer);
    any |= !answers_.none();
    const auto installing = server_.installing();
    answers_.run_all();
  }
  wake_all();
}

[[gnu::hot]] void Reader::wait() {
  timespec left{0, 0};
  const timespec* timeout = until_due(left);
  switch (server_.wait) {
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

const timespec* Reader::until_due(timespec& left) const noexcept {
  if (answers_.none() && wake_due_ == 0) return nullptr;
  const Clock& clock = Clock::get();
  const Ticks now = clock.now();
  Ticks due = wake_due_;
  if (!answers_.none() && (due == 0 || answers_.due() < due)) due = answers_.due();
  if (due > now) {
    const auto ns = clock.to_ns(due - now);
    left = {static_cast<time_t>(ns / kNanosecondsPerSecond), static_cast<long>(ns % kNanosecondsPerSecond)};
  }
  return &left;
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

// Between rounds the VMM processes wait until no event is left without an answer.
[[gnu::hot]] void Reader::begin_answering() noexcept {
  if (!std::exchange(counted_, true)) answering_.readers.fetch_add(1, std::memory_order_seq_cst);
}

[[gnu::hot]] void Reader::end_answering() noexcept {
  if (!counted_ || !answers_.none()) return;
  counted_ = false;
  answering_.times.fetch_add(1, std::memory_order_release);  // who sees it goes on without `readers` at 0
  answering_.readers.fetch_sub(1, std::memory_order_release);
}

[[gnu::hot]] bool Reader::read_events(Peer& peer) {
  begin_answering();
  const bool any = read_and_answer(peer);
  end_answering();
  return any;
}

[[gnu::hot]] std::size_t Reader::read_messages(const Peer& peer) noexcept {
  const ssize_t bytes = ::read(peer.uffd().fd(), messages_.data(), messages_.size() * sizeof(uffd_msg));
  return bytes > 0 ? static_cast<std::size_t>(bytes) / sizeof(uffd_msg) : 0;
}

std::size_t Reader::read_and_mark(Peer& peer) {
  std::unique_lock<std::shared_mutex> alone;
  if (server_.mapped() != nullptr) alone = std::unique_lock(server_.removing);
  marking_.fetch_add(1, std::memory_order_seq_cst);
  const std::size_t count = read_messages(peer);
  mark_removes(peer, count);
  return count;
}

[[gnu::hot]] bool Reader::read_and_answer(Peer& peer) {
  const std::size_t count = server_.config.track_removes ? read_and_mark(peer) : read_messages(peer);
  if (count == 0) {
    ++counters_[Counter::reads_empty];  // nothing is left, another reader was faster, or the other process is gone
    return false;
  }
  ++counters_[Counter::reads];
  std::uint16_t cpu = 0;
  const Ticks delivered = Clock::get().now_and_cpu(cpu);
  seen_.add(cpu);
  const auto installing = server_.installing();
  for (std::size_t i = 0; i < count && !vanished_; ++i) {
    if (messages_[i].event == UFFD_EVENT_PAGEFAULT)
      take_fault(peer, messages_[i], delivered);
    else if (messages_[i].event != UFFD_EVENT_REMOVE)
      ++counters_[Counter::unknown_events];
  }
  return true;
}

[[gnu::hot]] void Reader::take_fault(Peer& peer, const uffd_msg& message, Ticks delivered) {
  const auto page = peer.page_at(message.arg.pagefault.address);
  if (!page) {
    ++counters_[Counter::unknown_events];
    return;
  }
  ++counters_[Counter::events];
  const Inject& inject = server_.config.inject;
  if (inject.drop_events_share > 0.0 && dropping_.unit() < inject.drop_events_share) {
    ++counters_[Counter::events_dropped];
    return;
  }
  if (server_.mapped() != nullptr) return take_foreign_fault(peer, message, *page, delivered);
  const std::uint32_t vcpu = vcpus_.find(message.arg.pagefault.feat.ptid);
  FaultRecord* const record = vcpu == Request::kNobody ? nullptr : peer.record_of(vcpu, *page);
  // Of a fault that is raised again, its sleeper woken without an answer, the first event counts: later stages follow it.
  if (record != nullptr && record->delivered.load(std::memory_order_relaxed) == 0)  // relaxed: reset before `slot`, acquired
    record->delivered.store(delivered, std::memory_order_release);
  if (record == nullptr && vcpu != Request::kNobody) note_sleeper(vcpu, *page, delivered);
  count_waiter(vcpu);
  if (inject.vanish_after_events != 0 && ++taken_ > inject.vanish_after_events) {
    counters_[Counter::events_dropped] += 1 + answers_.drop();
    vanish();
    return;
  }
  const bool minor = (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR) != 0;
  answers_.answer({*page, vcpu, &peer, record, delivered, minor});
}

[[gnu::hot]] void Reader::take_foreign_fault(Peer& peer, const uffd_msg& message, std::uint64_t page, Ticks delivered) {
  const auto& fault = message.arg.pagefault;
  FaultRecord* record = nullptr;
  if (server_.log != nullptr) {
    record = server_.log->add(page, delivered, (fault.flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0, fault.feat.ptid);
    if (record == nullptr) ++counters_[Counter::records_dropped];
  }
  answers_.answer({page, Request::kNobody, &peer, record, delivered, false});
}

[[gnu::hot]] void Reader::count_waiter(std::uint32_t vcpu) noexcept {
  if (vcpu == Request::kNobody) {
    ++counters_[Counter::device_waits];
    return;
  }
  // relaxed: set before the start; a stage and a count of their own
  if (guest_.header().exits.load(kRelaxed) == 0) return;
  VcpuState& state = guest_.vcpu(vcpu);
  const bool populating = state.stage.load(kRelaxed) == Stage::populating;
  ++counters_[populating ? Counter::populate_waits : Counter::stray_waits];
  if (!populating) state.stray_waits.fetch_add(1, kRelaxed);
}

// A vCPU opens no record for a page that it takes for mapped. Where it sleeps in one this note has it opened afterwards; of
// several events of one access the first counts. A vCPU that has gone on meanwhile has another page or has counted the access.
void Reader::note_sleeper(std::uint32_t vcpu, std::uint64_t page, Ticks delivered) const noexcept {
  VcpuState& state = guest_.vcpu(vcpu);
  // relaxed: stored by the vCPU before it slept
  const std::uint64_t access = state.accesses.load(kRelaxed) + 1;
  if (state.slot.load(kRelaxed) != kNoSlot || state.page.load(kRelaxed) != page || state.slept.load(kRelaxed) == access) return;
  state.slept_at.store(delivered, kRelaxed);
  state.slept.store(access, std::memory_order_release);
}

// The dropper has gone on inside our read(2) already: until this is done a thread that finds a page gone which the record calls
// resolved waits (Guest::wait_for_removes). So it comes before any fault of the batch, and waits for nothing.
void Reader::mark_removes(Peer& peer, std::size_t messages) {
  const std::uint64_t page_bytes = guest_.config().page_bytes;
  for (std::size_t i = 0; i < messages; ++i) {
    if (messages_[i].event != UFFD_EVENT_REMOVE) continue;
    ++counters_[Counter::removes];
    const auto& removed = messages_[i].arg.remove;
    for (const RegionView& region : peer.regions()) {
      const std::uint64_t first = std::max<std::uint64_t>(removed.start, region.base_host_virt_addr);
      const std::uint64_t end = std::min<std::uint64_t>(removed.end, region.base_host_virt_addr + region.size);
      for (std::uint64_t at = first; at < end; at += page_bytes)
        answers_.discard(peer, (region.offset + at - region.base_host_virt_addr) / page_bytes);
    }
  }
  marking_.fetch_add(1, std::memory_order_release);
}

void Reader::wake_all() noexcept {
  for (const Peer* peer : peers_) {
    counters_[Counter::wakes] += peer->regions().size();
    peer->wake_all();
  }
  wake_due_ = Clock::get().now() + wake_interval_;
}

// Closes this reader's userfaultfds, in place, so that no other file gets the number while it is in use: an eventfd is never
// readable unless it is written.
void Reader::vanish() {
  vanished_ = true;
  const Descriptor silent(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!silent.valid()) throw KernelError("eventfd", errno);
  for (const Peer* peer : peers_)
    if (::dup3(silent.get(), peer->uffd().fd(), O_CLOEXEC) < 0) throw KernelError("dup3 over a userfaultfd", errno);
}

}  // namespace uffd
