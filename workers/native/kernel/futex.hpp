// Waiting on a word of shared memory, across processes, always with a way out: a timeout, and a word that a stop changes.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <ctime>

namespace uffd {

using FutexWord = std::atomic<std::uint32_t>;

// relaxed: each file that uses it has the reason
constexpr auto kRelaxed = std::memory_order_relaxed;
/// The longest sleep of a wait before it looks whether the run was stopped.
constexpr std::uint64_t kStopPollNs = 100'000'000;

/// Sleeps while `word` is `value`, for at most `timeout_ns`; spurious returns are normal, so callers loop.
inline void futex_wait(FutexWord& word, std::uint32_t value, std::uint64_t timeout_ns) noexcept {
  const timespec timeout{static_cast<time_t>(timeout_ns / 1'000'000'000), static_cast<long>(timeout_ns % 1'000'000'000)};
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT, value, &timeout, nullptr, 0);
}

/// The same, with `asleep` set meanwhile: a thread that changes the word calls the kernel only when it is set.
inline void futex_wait_noted(FutexWord& word, std::uint32_t value, FutexWord& asleep, std::uint64_t timeout_ns) noexcept {
  asleep.store(1, std::memory_order_seq_cst);
  if (word.load(std::memory_order_seq_cst) == value) futex_wait(word, value, timeout_ns);
  asleep.store(0, std::memory_order_relaxed);  // relaxed: seen late it costs a wake too many
}

inline void futex_wake(FutexWord& word, int waiters) noexcept {
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE, waiters, nullptr, nullptr, 0);
}

}  // namespace uffd
