#include "server/server_threads.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <csignal>

#include "kernel/error.hpp"

namespace uffd {

namespace {

/// Ends a reader's wait. It does nothing by itself: the wait returns, and the reader sees that it is to stop.
int kick_signal() { return SIGRTMIN + 6; }

/// Before there is a thread to be kicked: without a handler a kick would end the process.
void handle_kicks() {
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

std::string text_of(ThreadName name) { return std::string(name.role) + " " + std::to_string(name.number); }

}  // namespace

void ServerThreads::start(ThreadInfo& info, ThreadName name, const CpuList& cpus, std::function<void()> work) {
  handle_kicks();
  threads_.start("page server: " + text_of(name),
                 [this, &info, name, cpus, work = std::move(work)] { run(info, name, cpus, work); });
}

void ServerThreads::run(ThreadInfo& info, ThreadName name, const CpuList& cpus, const std::function<void()>& work) {
  try {
    info.tid = static_cast<std::uint32_t>(::syscall(SYS_gettid));
    name_this_thread(text_of(name));
    pin_this_thread(cpus);
    let_kicks_through();
    info.seen.add_current();
    work();
    info.seen.add_current();
    info.usage = ThreadUsage::of_this_thread();
  } catch (const std::exception& error) {
    const std::lock_guard lock(ending_);
    if (failure_ == nullptr) failure_ = std::current_exception();
    server_.guest.stop("page server: " + text_of(name) + ": " + error.what());
  }
  const std::lock_guard lock(ending_);
  ++ended_;
  end_.notify_all();
}

void ServerThreads::join() {
  {
    std::unique_lock lock(ending_);
    const auto all_ended = [this] { return ended_ == threads_.all().size(); };
    end_.wait(lock, [&] { return server_.stops() || all_ended(); });
    // Again until they have ended: a kick may come between a reader's look and its wait. Rings and the prefetcher bear it too.
    for (const auto interval = std::chrono::milliseconds(1); !all_ended(); end_.wait_for(lock, interval, all_ended))
      for (std::thread& thread : threads_.all()) ::pthread_kill(thread.native_handle(), kick_signal());
  }
  threads_.join();
  if (failure_ != nullptr) std::rethrow_exception(failure_);
}

void ServerThreads::stop() noexcept {
  {
    const std::lock_guard lock(ending_);
    server_.stopping.store(true, std::memory_order_release);
  }
  end_.notify_all();
  for (std::uint32_t i = 0; i < server_.guest.config().rings; ++i) server_.guest.ring(i).wake();
}

}  // namespace uffd
