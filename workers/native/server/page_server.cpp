#include "server/page_server.hpp"

#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <chrono>
#include <csignal>
#include <exception>
#include <mutex>
#include <queue>
#include <thread>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"
#include "resolve/poison.hpp"
#include "server/reader.hpp"

namespace uffd {

namespace {

Wait wait_of(const std::string& name) {
  if (name == "poll") return Wait::poll;
  if (name == "epoll") return Wait::epoll;
  if (name == "spin") return Wait::spin;
  throw ConfigError("page_server.wait '" + name + "' is unknown; it is one of poll, epoll, spin");
}

/// Ends a reader's wait. It does nothing by itself: the wait returns, and the reader sees that it is to stop.
int kick_signal() { return SIGRTMIN + 6; }

/// Before there is a thread to be kicked: unheard, a kick would end the process.
void hear_kicks() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action{};
    action.sa_handler = [](int) {};
    if (::sigaction(kick_signal(), &action, nullptr) != 0) throw KernelError("sigaction of a reader's kick", errno);
  });
}

void let_kicks_through() {
  sigset_t kick;
  ::sigemptyset(&kick);
  ::sigaddset(&kick, kick_signal());
  ::pthread_sigmask(SIG_UNBLOCK, &kick, nullptr);
}

std::uint64_t size_of(int fd) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) throw KernelError("fstat of a peer's memfd", errno);
  return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace

PageServer::PageServer(const Guest& guest, PageServerConfig config)
    : guest_(guest), config_(std::move(config)), wait_(wait_of(config_.wait)), live_(guest) {
  if (config_.events_per_read == 0) throw ConfigError("page_server.events_per_read must be at least 1");
  check(config_.prefetch, guest_.pages());
  if (!(config_.delay_us >= 0.0)) throw ConfigError("page_server.delay_us must not be negative");
  if (guest_.region_fd() >= 0) {
    alias_ = Mapping::shared(guest_.region_fd(), guest_.config().region_bytes);
    if (guest_.config().memory == MemoryType::shmem && !guest_.config().transparent_huge_pages)
      alias_.advise(MADV_NOHUGEPAGE, "madvise MADV_NOHUGEPAGE");
  }
  if (config_.successor) guest_.succeed_server();
  claim_ = PageRecord::reader_claim(guest_.header().server_epoch.load(std::memory_order_acquire));
  infos_.resize(config_.readers + guest_.config().rings + (config_.prefetch.name == "none" ? 0 : 1));
  const std::uint32_t shared = guest_.config().server_threads;
  own_counters_.resize(infos_.size() - std::min<std::size_t>(infos_.size(), shared));
  for (std::uint32_t i = 0; i < infos_.size(); ++i)
    infos_[i].counters = i < shared ? &guest_.server_counters(i) : &own_counters_[i - shared];
  config_.source.remote.first_counters = static_cast<std::uint32_t>(infos_.size());
  source_ = std::make_unique<Source>(guest_, alias_.data(), config_.source, config_.inject.fill_pause_us);
}

PageServer::~PageServer() { stop(); }

void PageServer::add(int fd, std::vector<RegionView> regions, int vmm, int record_fd, int faults_fd) {
  const GuestConfig& guest = guest_.config();
  for (const RegionView& view : regions)
    if (view.size == 0 || view.size % guest.page_bytes != 0 || view.offset % guest.page_bytes != 0 ||
        view.offset > guest.region_bytes || view.size > guest.region_bytes - view.offset)
      throw ConfigError("a peer's region lies outside the guest region or is not a multiple of its pages");
  Descriptor own(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!own.valid()) throw KernelError("dup of a userfaultfd", errno);
  auto peer = std::make_unique<Peer>(Peer{Userfaultfd(std::move(own)), std::move(regions), vmm, {}, {}, 0, nullptr});
  if (record_fd >= 0) {
    if (size_of(record_fd) < guest_.pages()) throw ConfigError("a peer's page record is smaller than the region");
    peer->record = Mapping::populated(record_fd, guest_.pages());
  } else {
    peer->record = Mapping::anonymous((guest_.pages() + kBasePageBytes - 1) / kBasePageBytes * kBasePageBytes, kBasePageBytes);
  }
  if (faults_fd >= 0) {
    const std::uint64_t bytes = size_of(faults_fd);
    if (vmm < 0 || static_cast<std::uint32_t>(vmm) >= guest.vcpus / guest.vcpus_per_vmm)
      throw ConfigError("a peer says it is VMM process " + std::to_string(vmm) + ", which the guest does not have");
    peer->slots_per_vcpu = bytes / sizeof(FaultRecord) / guest.vcpus_per_vmm;
    if (bytes != 0) peer->faults = Mapping::populated(faults_fd, bytes);
  }
  std::vector<Shard> shards;
  for (const RegionView& view : peer->regions)
    shards.push_back({&peer->uffd, view.base_host_virt_addr, view.offset / guest.page_bytes, view.size / guest.page_bytes});
  peer->resolver =
      std::make_unique<Resolver>(std::move(shards), PageRecord(reinterpret_cast<std::atomic<std::uint8_t>*>(peer->record.data())),
                                 guest, std::min(config_.fault_around_pages, guest.fault_around_pages));
  if (vmm >= 0)
    live_.watch(static_cast<std::uint32_t>(vmm), reinterpret_cast<const FaultRecord*>(peer->faults.data()), peer->slots_per_vcpu,
                peer->resolver->record());
  peers_.push_back(std::move(peer));
}

// More readers than userfaultfds: each reader has one, and some share it. Fewer: each reader has several.
std::vector<Peer*> PageServer::peers_of(std::uint32_t reader) const {
  std::vector<Peer*> mine;
  for (std::size_t i = 0; i < peers_.size(); ++i)
    if (config_.readers >= peers_.size() ? i == reader % peers_.size() : i % config_.readers == reader)
      mine.push_back(peers_[i].get());
  return mine;
}

void PageServer::serve() {
  hear_kicks();
  line_.begin();
  std::exception_ptr failure;
  std::vector<std::thread> threads;
  std::size_t ended = 0;
  const auto cpus_of = [this](std::uint32_t number) {
    return number < config_.reader_cpus.size() ? config_.reader_cpus[number] : CpuList{};
  };
  const auto start = [&](std::uint32_t index, const CpuList& cpus, auto work) {
    threads.emplace_back([this, index, cpus, work, &failure, &ended] {
      ReaderInfo& info = infos_[index];
      try {
        info.tid = static_cast<std::uint32_t>(::syscall(SYS_gettid));
        const ThreadName name = name_of(index);
        name_this_thread(std::string(name.role) + " " + std::to_string(name.number));
        pin_this_thread(cpus);
        let_kicks_through();
        info.seen.add_current();
        work(info);
        info.seen.add_current();
        info.usage = ThreadUsage::of_this_thread();
      } catch (const std::exception& error) {
        const std::lock_guard lock(ending_);
        if (failure == nullptr) failure = std::current_exception();
        guest_.stop(std::string("page server: ") + error.what());
      }
      const std::lock_guard lock(ending_);
      ++ended;
      end_.notify_all();
    });
  };
  if (config_.successor) wake_everybody();
  if (source_->remote() != nullptr) source_->remote()->start();
  if (!peers_.empty())
    for (std::uint32_t i = 0; i < config_.readers; ++i)
      start(i, cpus_of(i), [this, i](ReaderInfo& info) { Reader(*this, i, info).serve(); });
  // A ring's thread runs where the reader of its number does: vCPUs that ask and vCPUs that sleep are served alike.
  for (std::uint32_t i = 0; i < guest_.config().rings; ++i)
    start(config_.readers + i, cpus_of(i), [this, i](ReaderInfo& info) { serve_ring(i, info); });
  if (config_.prefetch.name != "none")
    start(config_.readers + guest_.config().rings, config_.prefetch.cpus,
          [this](ReaderInfo& info) { Prefetcher(*this, config_.prefetch, info, prefetch_marks_).serve(); });
  {
    std::unique_lock lock(ending_);
    const auto all_ended = [&] { return ended == threads.size(); };
    end_.wait(lock, [&] { return stopping_.load(std::memory_order_acquire) || all_ended(); });
    // Again until they have ended: a kick may come between a reader's look and its wait. Rings and streams bear it too.
    for (const auto patience = std::chrono::milliseconds(1); !all_ended(); end_.wait_for(lock, patience, all_ended))
      for (std::thread& thread : threads) ::pthread_kill(thread.native_handle(), kick_signal());
  }
  for (std::thread& thread : threads) thread.join();
  if (source_->remote() != nullptr) source_->remote()->stop();
  line_.end();
  if (failure != nullptr) std::rethrow_exception(failure);
}

// Events that a killed predecessor had read are lost with it: whoever sleeps faults again, and is heard.
void PageServer::wake_everybody() const noexcept {
  for (const auto& peer : peers_)
    for (const RegionView& view : peer->regions) peer->uffd.wake(view.base_host_virt_addr, view.size);
}

void PageServer::answer(std::uint32_t vcpu, RequestState state) const noexcept {
  VcpuState& line = guest_.vcpu(vcpu);
  line.request.store(static_cast<std::uint32_t>(state), std::memory_order_seq_cst);
  if (line.request_asleep.load(std::memory_order_seq_cst) != 0) futex_wake(line.request, 1);
}

void PageServer::poison_in_others(std::uint64_t page, Counters& counters) const noexcept {
  for (const auto& peer : peers_)
    if (peer->resolver->covers(page) && peer->resolver->record().claim(page, claim_))
      peer->resolver->poison(page, true, counters);
}

// A ring's thread: an exiting vCPU asks for contents, and installs them itself.
void PageServer::serve_ring(std::uint32_t index, ReaderInfo& info) {
  struct Request {
    Ticks due, began;
    std::uint32_t vcpu;
    std::vector<bool> mine;
    bool put;
    bool operator>(const Request& other) const noexcept { return due > other.due; }
  };
  ::prctl(PR_SET_TIMERSLACK, 1);
  const Clock& clock = Clock::get();
  Delay delay(config_.delay_us, config_.delay_exponential, config_.seed + config_.readers + index);
  std::priority_queue<Request, std::vector<Request>, std::greater<>> requests;
  RequestRing& ring = guest_.ring(index);
  constexpr std::uint64_t kLongestNs = 5'000'000'000;  // a stop rings: this only bounds what nobody thought of
  const Ticks look_again = clock.from_ns(20'000);
  const bool anon = guest_.config().memory == MemoryType::anon;
  Counters& counters = *info.counters;

  const auto run_of = [this](std::uint32_t vcpu) {
    const VcpuState& state = guest_.vcpu(vcpu);
    return PageRun{state.request_page.load(std::memory_order_relaxed), state.request_pages.load(std::memory_order_relaxed)};
  };
  RemoteSource* const remote = source_->remote();
  const auto advance = [&](Request request) {
    const PageRun run = run_of(request.vcpu);
    if (!request.put) {
      request.put = true;
      if (!delay.none()) {
        ++counters[Counter::delays];
        counters[Counter::delay_ns] += clock.to_ns(clock.now() - request.began);
      }
      const std::uint64_t wanted = guest_.vcpu(request.vcpu).wanted_page.load(std::memory_order_relaxed);
      if (poisoned_at_source(guest_, wanted)) {
        poison_in_others(wanted, counters);
        answer(request.vcpu, RequestState::poisoned);
        return;
      }
      if (remote != nullptr) {  // answered when the pages have arrived
        const auto present = [this, vcpu = request.vcpu](Counters&) { answer(vcpu, RequestState::present); };
        if (!remote->fetch(run, request.mine, anon ? guest_.payload(request.vcpu) : nullptr, present))
          answer(request.vcpu, RequestState::present);
        return;
      }
      if (anon) {
        source_->make(run, guest_.payload(request.vcpu));
        counters[Counter::fetched_pages] += run.count;
      }
      for (std::uint32_t i = 0; !anon && i < run.count; ++i) {
        if (!request.mine[i]) continue;
        source_->put(run.first + i);
        ++counters[Counter::fetched_pages];
      }
    }
    if (anon || source_->complete(run)) {
      answer(request.vcpu, RequestState::present);
      return;
    }
    request.due = clock.now() + look_again;  // another thread fetches some page of it
    requests.push(std::move(request));
  };

  std::uint32_t vcpu = index;  // whose request was taken last
  while (true) {
    // Before the look at `stopping_`: a stop that this look misses rings after it, and the sleep below does not begin.
    const std::uint32_t rung = ring.doorbell.load(std::memory_order_seq_cst);
    if (stopping_.load(std::memory_order_seq_cst)) return;
    bool any = false;
    for (; guest_.next_request(index, vcpu); any = true) {
      ++counters[Counter::requests];
      PageRun run = run_of(vcpu);
      VcpuState& line = guest_.vcpu(vcpu);
      const std::uint64_t wanted = line.wanted_page.load(std::memory_order_relaxed);
      if (run.count == 0 || wanted - run.first >= run.count || run.first >= guest_.pages() ||
          run.count > guest_.pages() - run.first || run.count > guest_.config().fault_around_pages) {
        answer(vcpu, RequestState::failed);
        continue;
      }
      run = around_poison(guest_, run, wanted);
      line.request_page.store(run.first, std::memory_order_relaxed);
      line.request_pages.store(run.count, std::memory_order_relaxed);
      std::uint16_t cpu = 0;
      Request request{0, clock.now_and_cpu(cpu), vcpu, {}, false};
      info.seen.add(cpu);
      if (line.request_lost.load(std::memory_order_relaxed) != 0)
        for (std::uint32_t i = 0; i < run.count; ++i) source_->lost(run.first + i);
      if (!anon && !poisoned_at_source(guest_, wanted)) source_->take(run, request.mine);
      if (delay.none()) {
        advance(std::move(request));
      } else {
        request.due = request.began + clock.from_ns(delay.next_ns());
        requests.push(std::move(request));
      }
    }
    const Ticks looked = clock.now();  // one that puts itself off waits for the next round, as in Reader::run_due
    while (!requests.empty() && requests.top().due <= looked) {
      Request request = requests.top();
      requests.pop();
      advance(std::move(request));
      any = true;
    }
    if (remote != nullptr) remote->flush();
    if (any || spins(true)) continue;
    std::uint64_t nap = kLongestNs;
    if (!requests.empty()) {
      const Ticks now = clock.now();
      const Ticks due = requests.top().due;
      if (due <= now) continue;
      nap = clock.to_ns(due - now);
    }
    futex_wait_noted(ring.doorbell, rung, ring.asleep, nap);
  }
}

void PageServer::stop() noexcept {
  {
    const std::lock_guard lock(ending_);
    stopping_.store(true, std::memory_order_release);
  }
  end_.notify_all();
  for (std::uint32_t i = 0; i < guest_.config().rings; ++i) guest_.ring(i).wake();
}

ThreadName PageServer::name_of(std::size_t index) const noexcept {
  const std::size_t rings = config_.readers + guest_.config().rings;
  if (index < config_.readers) return {"reader", index};
  return index < rings ? ThreadName{"ring", index - config_.readers} : ThreadName{"prefetch", 0};
}

std::vector<PrefetchMark> PageServer::prefetch_marks() const {
  std::vector<PrefetchMark> marks = prefetch_marks_;
  for (PrefetchMark& mark : marks) mark.at = line_.to_ns(mark.at);
  return marks;
}

Counters PageServer::counters() const {
  Counters sum;
  for (const ReaderInfo& info : infos_) sum += *info.counters;
  if (source_->remote() != nullptr) sum += source_->remote()->counters();
  return sum;
}

}  // namespace uffd
