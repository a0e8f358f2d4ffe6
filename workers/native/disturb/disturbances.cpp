#include "disturb/disturbances.hpp"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kPauseSliceNs = 20'000'000;  // how long a pause sleeps before it looks whether it is time to end
constexpr double kLongestBacklogS = 0.1;             // what could not be done in time is made up for, but not for ever

}  // namespace

// Open loop: a unit is due a fixed time after the one before it, whenever that was done. Sleeping overshoots by 50 us and
// more, so at a high rate several are done in a row, and then it sleeps again.
bool Disturber::next() {
  const Clock& clock = Clock::get();
  rest();
  if (rate_per_s_ <= 0.0) return !ending();
  Ticks now = clock.now();
  due_ = std::max(due_ + clock.from_ns(1e9 / rate_per_s_), now - clock.from_ns(kLongestBacklogS * 1e9));
  for (; now < due_; now = clock.now()) {
    if (ending()) return false;
    // A nap that hold() cuts short.
    const std::uint32_t hold = control_.hold_until.load(std::memory_order_acquire);
    rest();
    futex_wait(control_.hold_until, hold, std::min(clock.to_ns(due_ - now), kPauseSliceNs));
  }
  return !ending();
}

// What would have been due meanwhile is not made up for: it was no part of the measured time.
void Disturber::rest() {
  FutexWord& released = guest_.header().released;
  const auto held = [&](std::uint32_t rounds) {
    return rounds < control_.hold_until.load(std::memory_order_seq_cst) && !ending();
  };
  // Looked at once more after it no longer counts as resting: hold() may have counted it for the next round.
  while (held(released.load(std::memory_order_acquire))) {
    const Ticks began = Clock::get().now();
    control_.resting.fetch_add(1, std::memory_order_seq_cst);
    for (std::uint32_t rounds; held(rounds = released.load(std::memory_order_acquire));)
      futex_wait(released, rounds, kPauseSliceNs);
    control_.resting.fetch_sub(1, std::memory_order_seq_cst);
    const Ticks rested_now = Clock::get().now() - began;
    rested += rested_now;
    due_ += rested_now;
  }
}

Disturbances::Disturbances(const DisturbConfig& config, const Scene& scene)
    : guest_(scene.guest), populate_first_(scene.populate_first) {
  for (const auto make : {make_balloon, make_migrator, make_mmap_writers, make_devices})
    if (auto disturbance = make(config, scene)) all_.push_back(std::move(disturbance));
  for (const auto& disturbance : all_)
    for (std::uint32_t i = 0; i < disturbance->threads(); ++i) {
      Thread& thread = threads_.emplace_back();
      thread.role = disturbance->role();
      thread.number = i;
      thread.rate_per_s = disturbance->rate_per_s() / disturbance->threads();
      thread.work = std::make_unique<Disturber>(guest_, control_, thread.rate_per_s);
    }
}

void Disturbances::start() {
  std::size_t next = 0;
  for (const auto& disturbance : all_)
    for (std::uint32_t i = 0; i < disturbance->threads(); ++i, ++next) {
      running_.fetch_add(1, std::memory_order_relaxed);  // relaxed: before its thread is there
      try {
        handles_.emplace_back([this, &disturbance = *disturbance, &thread = threads_[next]] { run(disturbance, thread); });
      } catch (...) {
        running_.fetch_sub(1, std::memory_order_relaxed);  // relaxed: its thread never was
        throw;
      }
    }
}

void Disturbances::run(Disturbance& disturbance, Thread& thread) noexcept {
  thread.tid = static_cast<std::uint32_t>(::syscall(SYS_gettid));
  name_this_thread(thread.role + " " + std::to_string(thread.number));
  ::prctl(PR_SET_TIMERSLACK, 1);
  FutexWord& released = guest_.header().released;
  while (released.load(std::memory_order_acquire) == 0 && !thread.work->ending()) futex_wait(released, 0, kPauseSliceNs);
  if (populate_first_ != nullptr && disturbance.of_guest())
    while (!populate_first_->wait(kPauseSliceNs) && !thread.work->ending());
  thread.seen.add_current();
  thread.began = Clock::get().now();
  thread.work->due_ = thread.began;
  try {
    disturbance.work(thread.number, *thread.work);
  } catch (const std::exception& error) {
    guest_.stop(thread.role + ": " + error.what());
  }
  thread.ended = Clock::get().now();
  thread.seen.add_current();
  thread.usage = ThreadUsage::of_this_thread();
  thread.work->ended.store(true, std::memory_order_relaxed);  // relaxed: for a message only
  running_.fetch_sub(1, std::memory_order_release);
}

bool Disturbances::hold(std::uint32_t rounds, double patience_s) {
  const std::uint64_t began = Clock::monotonic_ns();
  control_.hold_until.store(rounds, std::memory_order_seq_cst);
  futex_wake(control_.hold_until, 0x7fffffff);
  while (control_.resting.load(std::memory_order_seq_cst) < running_.load(std::memory_order_acquire)) {
    if (guest_.stopping()) return false;
    if (patience_s > 0 && static_cast<double>(Clock::monotonic_ns() - began) > patience_s * 1e9)
      guest_.stop("stuck: between rounds, " + still_running() + " did not rest");
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return !guest_.stopping();
}

std::string Disturbances::still_running() const {
  std::string names;
  for (const Thread& thread : threads_)
    if (!thread.work->ended.load(std::memory_order_relaxed))  // relaxed: for a message only
      names += (names.empty() ? "" : ", ") + thread.role + " " + std::to_string(thread.number);
  return names;
}

}  // namespace uffd
