// Starting threads: where a process may have no more of them, the error names the one that was refused.
#pragma once

#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "kernel/error.hpp"

namespace uffd {

/// Throws KernelError naming `what` (a noun) when the thread cannot be started.
template <typename Work>
std::thread start_thread(const std::string& what, Work&& work) {
  const auto refused = [&what](int error) {
    return KernelError(
        what + " could not be started: raise the limit of threads (pids cgroup, ulimit -u) or of memory (ulimit -v)", error);
  };
  try {
    return std::thread(std::forward<Work>(work));
  } catch (const std::system_error& error) {
    throw refused(error.code().value());
  } catch (const std::bad_alloc&) {
    throw refused(ENOMEM);
  }
}

/// Threads that end by themselves; joined when this goes.
class JoinedThreads {
 public:
  JoinedThreads() = default;
  JoinedThreads(const JoinedThreads&) = delete;
  JoinedThreads& operator=(const JoinedThreads&) = delete;
  ~JoinedThreads() { join(); }

  /// Throws KernelError naming `what`.
  template <typename Work>
  void start(const std::string& what, Work&& work) {
    threads_.reserve(threads_.size() + 1);
    threads_.push_back(start_thread(what, std::forward<Work>(work)));
  }
  void join() {
    for (std::thread& thread : threads_)
      if (thread.joinable()) thread.join();
  }
  std::vector<std::thread>& all() noexcept { return threads_; }

 private:
  std::vector<std::thread> threads_;
};

}  // namespace uffd
