#include "server/fault_answers.hpp"

#include <memory>
#include <span>

#include "resolve/poison.hpp"

namespace uffd {

namespace {

using End = Installed::End;

// relaxed: stamps and counts are read by others only when this thread has ended its answers, which it says with release order.
/// Contents of anonymous memory on their way; empty for shared memory.
std::shared_ptr<std::vector<std::byte>> buffer_for(const Guest& guest, std::uint32_t pages) {
  const bool anonymous = guest.config().memory == MemoryType::anon;
  return std::make_shared<std::vector<std::byte>>(anonymous ? pages * guest.config().page_bytes : 0);
}

std::byte* start_of(std::vector<std::byte>& contents) { return contents.empty() ? nullptr : contents.data(); }

[[gnu::hot]] void count_installed(const ServerState& server, const Request& fault, const Part& part, const Installed& installed,
                                  Counters& counters) {
  if (server.mapped() != nullptr) {
    counters[Counter::served_pages] += installed.first;
    if (part.zero) counters[Counter::zero_pages] += installed.pages;
  } else if (fault.vcpu == Request::kNobody) {
    counters[Counter::device_resolved] += installed.pages - installed.again;
  } else if (installed.pages != 0) {
    VcpuState& vcpu = server.guest.vcpu(fault.vcpu);
    vcpu.resolved_by_reader.fetch_add(installed.pages - installed.again, kRelaxed);
    vcpu.first_by_reader.fetch_add(installed.first, kRelaxed);
  }
}

void release(const Resolver& resolver, std::span<const Part> parts) {
  for (const Part& part : parts) resolver.release(part.run);
}

/// Installs a claimed run for a fault, part by part, and accounts for it. How the part with the fault's page ended: `changing`
/// and `gone` leave the fault without an answer. A part that cannot be installed is free again, as are those after it.
[[gnu::hot]] End install(const ServerState& server, const Request& fault, std::span<const Part> parts, int tries,
                         Counters& counters) {
  const Clock& clock = Clock::get();
  if (fault.record != nullptr && fault.record->fetched.load(kRelaxed) == 0) fault.record->fetched.store(clock.now(), kRelaxed);
  const Resolver& resolver = fault.peer->resolver();
  End end = End::changing;
  bool answered = false;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Part& part = parts[i];
    const Install how{.wanted = fault.page, .from = part.from, .wake = true, .tries = tries, .zero = part.zero};
    const Installed installed = resolver.install(part.run, how, counters);
    count_installed(server, fault, part, installed, counters);
    const bool wanted = fault.page - part.run.first < part.run.count;
    if (wanted && fault.record != nullptr) fault.record->installed.store(clock.now(), kRelaxed);
    if (!answered) end = wanted || installed.end != End::mapped ? installed.end : end;
    answered |= wanted;
    if (installed.end == End::refused) server.guest.stop(resolver.refusal(part.run, installed));
    if (installed.end == End::mapped || (installed.end == End::gone && !wanted)) continue;
    release(resolver, parts.subspan(i + 1));
    break;
  }
  if (end == End::mapped) ++counters[Counter::events_resolved];
  if (end == End::vanished || end == End::refused) ++counters[Counter::events_dropped];
  return end;
}

/// The same for a page that was resolved before.
Installed install_once_more(const Request& fault, const std::byte* from, Counters& counters) {
  const Install how{.wanted = fault.page, .from = from, .wake = true, .known = Known::resolved_before, .tries = Resolver::kOnce};
  return fault.peer->resolver().install(fault.peer->resolver().unit_of(fault.page), how, counters);
}

/// `installed` is the fault's answer.
void count_again(const Guest& guest, const Request& fault, const Installed& installed, Counters& counters) {
  if (fault.record != nullptr && installed.pages != 0) {
    fault.record->fetched.store(fault.record->delivered.load(kRelaxed), kRelaxed);
    fault.record->installed.store(Clock::get().now(), kRelaxed);
  }
  ++counters[installed.pages != 0 ? Counter::resolved_again : installed.lost ? Counter::events_lost : Counter::events_dropped];
  if (installed.end == End::refused) guest.stop(fault.peer->resolver().refusal({fault.page, 1}, installed));
}

}  // namespace

FaultAnswers::FaultAnswers(ServerState& server, ThreadInfo& thread, std::uint32_t number)
    : DueWork(server, thread, number),
      staging_(server.anonymous() && server.mapped() == nullptr ? guest_.config().page_bytes * server.config.fault_around_pages
                                                                : 0) {}

[[gnu::hot]] void FaultAnswers::answer(const Request& fault) {
  const PageRun claimed = fault.peer->resolver().claim(fault.page, server_.claim);
  if (claimed.count == 0) return not_free(fault);
  const bool believed = fault.minor && claimed.count == 1 && !server_.config.inject.contents_bit;
  PageRun here{fault.page, believed ? 1u : 0u};
  if (!believed) here = around_complete(guest_, claimed, fault.page);
  if (server_.anonymous() || here.count == 0) return fetch(fault, claimed);
  if (here.count != claimed.count) narrow(fault, claimed, here);
  if (fault.record != nullptr) fault.record->fetched.store(fault.seen, kRelaxed);
  present(fault, here, nullptr);
}

// Another thread has claimed the page, or has settled it.
void FaultAnswers::not_free(const Request& fault) {
  const Resolver& resolver = fault.peer->resolver();
  PageState state = resolver.record().state(fault.page);
  if (state == PageState::resolved && server_.config.track_removes && server_.mapped() == nullptr) {
    guest_.wait_for_removes();
    state = resolver.record().state(fault.page);
  }
  switch (state) {
    case PageState::resolved: return install_again(fault);
    case PageState::poisoned:  // the sleeper that is woken meets the poison
      ++counters_[Counter::events_lost];
      return resolver.wake(fault.page, counters_);
    case PageState::in_flight:
    case PageState::unresolved:
    case PageState::discarded: ++counters_[Counter::deferred]; return look_later(fault, look_again_after());
  }
}

void FaultAnswers::discard(Peer& peer, std::uint64_t page) {
  if (server_.mapped() != nullptr) {
    counters_[Counter::pages_discarded] += peer.resolver().record().drop(page);
    return;
  }
  const Request removed{.page = page, .peer = &peer, .removed = true};
  if (!mark_removed(removed)) look_later(removed, look_again_after());
}

bool FaultAnswers::mark_removed(const Request& removed) noexcept {
  const bool marked = removed.peer->resolver().record().discard(removed.page);
  counters_[Counter::pages_discarded] += marked;
  return marked;
}

void FaultAnswers::narrow(const Request& fault, const PageRun& run, const PageRun& part) {
  fault.peer->resolver().release_rest(run, part);
}

void FaultAnswers::look(Request fault) {
  if (fault.removed) return discard(*fault.peer, fault.page);
  fault.seen = Clock::get().now();
  answer(fault);
}

[[gnu::hot]] void FaultAnswers::present(const Request& fault, const PageRun& run, const std::byte* from) {
  parts_.clear();
  if (server_.mapped() != nullptr)
    split_by_zeros(server_, fault.peer->resolver(), run, parts_);
  else
    parts_.push_back({run, from});
  if (server_.config.wake_first && run.count > fault.peer->resolver().unit_of(fault.page).count)
    split_off_first(fault.page, guest_.config().page_bytes, parts_);
  // A remove event that is pending may be ours to read: nothing is waited for here.
  const End end = install(server_, fault, parts_, Resolver::kOnce, counters_);
  if (end == End::changing) look_later(fault, look_again_after());
  if (end == End::gone) refetch(fault, run);
}

void FaultAnswers::refetch(const Request& fault, const PageRun& run) {
  ++counters_[Counter::contents_lost];
  for (std::uint32_t i = 0; i < run.count; ++i) server_.source->lost(run.first + i);
  look_later(fault, 0);
}

RemoteSource::Done FaultAnswers::arrival(const Request& fault, const PageRun& run, std::byte*& to) {
  const auto contents = buffer_for(guest_, run.count);
  to = start_of(*contents);
  return [&server = server_, fault, run, contents](Counters& counters) {
    std::vector<Part> parts{{run, start_of(*contents)}};
    if (server.config.wake_first && run.count > 1) split_off_first(fault.page, server.guest.config().page_bytes, parts);
    // No reader's thread, so remove events are read meanwhile. A sleeper that is woken unanswered faults again.
    const End end = install(server, fault, parts, Resolver::kTries, counters);
    if (end != End::changing && end != End::gone) return;
    ++counters[Counter::events_dropped];
    fault.peer->resolver().wake(fault.page, counters);
  };
}

// Resolved before: usually another thread's resolve was faster (EEXIST, and the sleeper is woken); reclaimed memory is
// installed once more.
void FaultAnswers::install_again(const Request& fault) {
  if (server_.anonymous() && server_.source->remote() != nullptr) {
    const auto contents = buffer_for(guest_, 1);
    const auto done = [&guest = guest_, fault, contents](Counters& counters) {
      const Installed installed = install_once_more(fault, contents->data(), counters);
      count_again(guest, fault, installed, counters);
      // Not installed: a sleeper that is woken faults again, and is answered anew.
      if (installed.end != End::mapped) fault.peer->resolver().wake(fault.page, counters);
    };
    server_.source->remote()->fetch({fault.page, 1}, {}, contents->data(), done);
    return;
  }
  const MappedSnapshot* mapped = server_.mapped();
  if (mapped == nullptr && !server_.anonymous() && !guest_.complete(fault.page)) {
    // Another mapping's balloon has removed it, and it is being written: it is brought as a page that was dropped.
    fault.peer->resolver().record().discard(fault.page);
    return refetch(fault, {fault.page, 1});
  }
  if (mapped == nullptr && server_.anonymous() && !server_.source->make({fault.page, 1}, staging_.data())) return failed(fault);
  const std::byte* from = mapped != nullptr ? mapped->at(fault.page * guest_.config().page_bytes) : start_of(staging_);
  const Installed installed = install_once_more(fault, from, counters_);
  if (installed.end == End::gone) return refetch(fault, {fault.page, 1});
  if (installed.end == End::changing) return look_later(fault, look_again_after());
  count_again(guest_, fault, installed, counters_);
}

// The page is claimed.
void FaultAnswers::poisoned(const Request& fault) {
  const Installed poisoned = fault.peer->resolver().poison(fault.page, true, counters_, Resolver::kOnce);
  if (poisoned.end == End::changing) return look_later(fault, look_again_after());
  if (fault.record != nullptr) fault.record->installed.store(Clock::get().now(), kRelaxed);
  ++counters_[poisoned.pages != 0 ? Counter::events_poisoned : poisoned.lost ? Counter::events_lost : Counter::events_dropped];
  if (poisoned.pages != 0) server_.poison_in_others(fault.page, counters_);
  if (poisoned.end == End::refused) guest_.stop(fault.peer->resolver().refusal({fault.page, 1}, poisoned));
}

}  // namespace uffd
