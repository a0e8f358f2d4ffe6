#include "server/due_work.hpp"

#include "resolve/poison.hpp"

namespace uffd {

DueWork::DueWork(ServerState& server, ThreadInfo& thread, std::uint32_t number)
    : server_(server),
      guest_(server.guest),
      thread_(thread),
      counters_(*thread.counters),
      delay_(server.config.delay_us, server.config.delay_exponential, server.config.seed + number),
      look_again_(Clock::get().from_ns(kClaimedPollNs)) {}

// What is due now and no more: a job that puts itself off is due again before a slow machine has come round to the others, and
// the thread would neither read nor see that it is to stop.
void DueWork::run_due() {
  const Ticks now = Clock::get().now();
  while (!jobs_.empty() && jobs_.top().due <= now) {
    Job job = jobs_.top();
    jobs_.pop();
    advance(std::move(job));
  }
}

void DueWork::run_all() {
  for (std::size_t left = jobs_.size(); left != 0; --left) {
    Job job = jobs_.top();
    jobs_.pop();
    advance(std::move(job));
  }
}

std::uint64_t DueWork::drop() noexcept {
  std::uint64_t requests = 0;
  for (; !jobs_.empty(); jobs_.pop()) {
    const Request& request = jobs_.top().request;
    requests += !request.removed;
    if (request.removed) mark_removed(request);
  }
  return requests;
}

void DueWork::later(Job job, Ticks delay) {
  job.due = Clock::get().now() + delay;
  jobs_.push(std::move(job));
}

void DueWork::look_later(const Request& request, Ticks delay) { later({0, 0, Step::look, request, {}, {}}, delay); }

void DueWork::fetch(const Request& request, const PageRun& run) {
  Job job{0, Clock::get().now(), Step::put, request, around_poison(guest_, run, request.page), {}};
  if (!server_.anonymous() && !poisoned_at_source(guest_, request.page))
    job.run = server_.source->take_around(job.run, request.page, job.mine);
  if (job.run.count != run.count) narrow(request, run, job.run);
  if (delay_.none())
    put(std::move(job));
  else
    later(std::move(job), Clock::get().from_ns(delay_.next_ns()));
}

void DueWork::advance(Job job) {
  switch (job.step) {
    case Step::look: return look(job.request);
    case Step::put: return put(std::move(job));
    case Step::present: return finish(std::move(job));
  }
}

void DueWork::put(Job job) {
  if (!delay_.none()) {
    ++counters_[Counter::delays];
    counters_[Counter::delay_ns] += Clock::get().to_ns(Clock::get().now() - job.began);
  }
  Source& source = *server_.source;
  if (poisoned_at_source(guest_, job.request.page)) return poisoned(job.request);
  if (source.remote() != nullptr) {  // finished on the thread its last page arrives on
    std::byte* to = nullptr;
    RemoteSource::Done done = arrival(job.request, job.run, to);
    if (!source.remote()->fetch(job.run, job.mine, to, std::move(done))) present(job.request, job.run, nullptr);
    return;
  }
  if (server_.mapped() != nullptr) {
    counters_[Counter::fetched_pages] += job.run.count;
    return present(job.request, job.run, nullptr);
  }
  if (server_.anonymous()) {
    std::byte* const to = buffer(job.request);
    if (!source.make(job.run, to)) return failed(job.request);
    counters_[Counter::fetched_pages] += job.run.count;
    return present(job.request, job.run, to);
  }
  for (std::uint32_t i = 0; i < job.run.count; ++i) {
    if (!job.mine[i]) continue;
    source.put(job.run.first + i);
    ++counters_[Counter::fetched_pages];
  }
  finish(std::move(job));
}

void DueWork::finish(Job job) {
  if (server_.source->complete(job.run)) return present(job.request, job.run, nullptr);
  job.step = Step::present;  // another thread makes some page of it
  later(std::move(job), look_again_);
}

}  // namespace uffd
