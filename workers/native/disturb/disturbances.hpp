// The disturbances of one VMM process: starts their threads, ends them, and keeps what they did.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "disturb/disturbance.hpp"

namespace uffd {

class Disturbances {
 public:
  /// Throws ConfigError, KernelError.
  Disturbances(const DisturbConfig& config, const Scene& scene);

  struct Thread {
    std::string role;
    std::uint32_t number = 0;
    double rate_per_s = 0.0;  ///< asked of this thread
    std::uint32_t tid = 0;
    CpusSeen seen;
    ThreadUsage usage;  ///< of its whole life
    Ticks began = 0, ended = 0;
    std::unique_ptr<Disturber> work;
  };

  bool none() const noexcept { return all_.empty(); }
  /// The threads wait for the vCPUs to leave their barrier, and those of the guest for its restore.
  void start();
  /// Between rounds: none of them touches the guest until `rounds` rounds have been released. Returns when all rest. False: the
  /// run is being stopped, by this call when one does not rest within `patience_s` (0: for ever).
  bool hold(std::uint32_t rounds, double patience_s);
  /// Ends them. `unblock` is called again and again while one does not end: something it sleeps in is to be ended.
  template <typename Unblock>
  void stop(Unblock unblock) {
    control_.over.store(true, std::memory_order_release);
    while (running_.load(std::memory_order_acquire) != 0) {
      unblock();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    for (std::thread& thread : handles_) thread.join();
    handles_.clear();
  }
  /// Names the threads that have not ended.
  std::string still_running() const;
  const std::vector<Thread>& threads() const noexcept { return threads_; }

 private:
  void run(Disturbance& disturbance, Thread& thread) noexcept;

  const Guest& guest_;
  PopulateFirst* populate_first_;
  std::vector<std::unique_ptr<Disturbance>> all_;
  std::vector<Thread> threads_;
  std::vector<std::thread> handles_;
  DisturbControl control_;
  std::atomic<std::uint32_t> running_{0};
};

}  // namespace uffd
