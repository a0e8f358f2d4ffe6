#include "server/ring_server.hpp"

#include <sys/prctl.h>

namespace uffd {

namespace {

constexpr std::uint64_t kRingSleepNs = 5'000'000'000;  // a stop rings: this only bounds a sleep that nothing else ends
// relaxed: the fields of a request lie between the acquire that took it and the release that answers it.

void reply(const Guest& guest, std::uint32_t vcpu, RequestState state) noexcept {
  VcpuState& line = guest.vcpu(vcpu);
  line.request.store(static_cast<std::uint32_t>(state), std::memory_order_seq_cst);
  if (line.request_asleep.load(std::memory_order_seq_cst) != 0) futex_wake(line.request, 1);
}

}  // namespace

RingServer::RingServer(ServerState& server, ThreadInfo& thread, std::uint32_t ring, std::uint32_t number)
    : DueWork(server, thread, number), index_(ring), ring_(guest_.ring(ring)), last_(ring) {}

void RingServer::serve() {
  ::prctl(PR_SET_TIMERSLACK, 1);  // a due time is kept to what the timers can, not to the default 50 us
  RemoteSource* const remote = server_.source->remote();
  while (true) {
    // Before the look at `stopping`: a stop that this look misses rings after it, and the sleep below does not begin.
    const std::uint32_t rung = ring_.doorbell.load(std::memory_order_seq_cst);
    if (server_.stopping.load(std::memory_order_seq_cst)) return;
    const bool any = take_requests();
    run_due();
    if (remote != nullptr) remote->flush();
    if (!any && !server_.spins(true)) sleep(rung);
  }
}

bool RingServer::take_requests() {
  bool any = false;
  for (; guest_.next_request(index_, last_); any = true) take(last_);
  return any;
}

void RingServer::take(std::uint32_t vcpu) {
  ++counters_[Counter::requests];
  const VcpuState& line = guest_.vcpu(vcpu);
  const PageRun run{line.request_page.load(kRelaxed), line.request_pages.load(kRelaxed)};
  const std::uint64_t wanted = line.wanted_page.load(kRelaxed);
  if (run.count == 0 || wanted - run.first >= run.count || run.first >= guest_.pages() ||
      run.count > guest_.pages() - run.first || run.count > guest_.config().request_pages)
    return reply(guest_, vcpu, RequestState::failed);
  std::uint16_t cpu = 0;
  const Request request{.page = wanted, .vcpu = vcpu, .seen = Clock::get().now_and_cpu(cpu)};
  thread_.seen.add(cpu);
  if (line.request_lost.load(kRelaxed) != 0)
    for (std::uint32_t i = 0; i < run.count; ++i) server_.source->lost(run.first + i);
  fetch(request, run);
}

void RingServer::sleep(std::uint32_t rung) {
  std::uint64_t nap = kRingSleepNs;
  if (!none()) {
    const Clock& clock = Clock::get();
    const Ticks now = clock.now();
    if (due() <= now) return;
    nap = clock.to_ns(due() - now);
  }
  futex_wait_noted(ring_.doorbell, rung, ring_.asleep, nap);
}

void RingServer::narrow(const Request& request, const PageRun&, const PageRun& part) {
  VcpuState& line = guest_.vcpu(request.vcpu);
  line.request_page.store(part.first, kRelaxed);
  line.request_pages.store(part.count, kRelaxed);
}

void RingServer::present(const Request& request, const PageRun&, const std::byte*) {
  reply(guest_, request.vcpu, RequestState::present);
}

void RingServer::failed(const Request& request) { reply(guest_, request.vcpu, RequestState::failed); }

RemoteSource::Done RingServer::arrival(const Request& request, const PageRun&, std::byte*& to) {
  to = server_.anonymous() ? guest_.payload(request.vcpu) : nullptr;
  // On a thread of the source, which outlives this one.
  return [&guest = guest_, vcpu = request.vcpu](Counters&) { reply(guest, vcpu, RequestState::present); };
}

// The vCPU that asked poisons its own mapping.
void RingServer::poisoned(const Request& request) {
  server_.poison_in_others(request.page, counters_);
  reply(guest_, request.vcpu, RequestState::poisoned);
}

}  // namespace uffd
