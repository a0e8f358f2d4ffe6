// The page server's threads: started by name, kicked out of their waits when it stops, joined.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>

#include "kernel/thread.hpp"
#include "server/state.hpp"

namespace uffd {

/// What a thread of the page server does, and its number among those that do it.
struct ThreadName {
  const char* role;
  std::size_t number;
};

class ServerThreads {
 public:
  explicit ServerThreads(ServerState& server) : server_(server) {}

  /// Runs `work` on a thread of its own; what it throws ends the run. Throws KernelError naming the thread.
  void start(ThreadInfo& info, ThreadName name, const CpuList& cpus, std::function<void()> work);
  /// Returns when stop() was called or all have ended, and all are joined. Throws what the first of them threw.
  void join();
  /// Ends every wait; from any thread.
  void stop() noexcept;

 private:
  void run(ThreadInfo& info, ThreadName name, const CpuList& cpus, const std::function<void()>& work);

  ServerState& server_;
  JoinedThreads threads_;
  std::mutex ending_;
  std::condition_variable end_;  ///< a thread has ended, or all are to
  std::size_t ended_ = 0;
  std::exception_ptr failure_;
};

}  // namespace uffd
