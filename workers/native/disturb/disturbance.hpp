// What goes on beside the vCPUs: each disturbance is one file, with a class of this interface. Its threads start when the vCPUs
// leave their barrier and end when they have ended; each does units of its work at the rate asked for, as far as it gets.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "guest/counters.hpp"
#include "guest/dropped_pages.hpp"
#include "guest/guest.hpp"
#include "guest/page_record.hpp"
#include "guest/populate_first.hpp"
#include "kernel/clock.hpp"
#include "kernel/duration_histogram.hpp"
#include "kernel/placement.hpp"
#include "kernel/thread_usage.hpp"

namespace uffd {

enum class DropMethod {
  dontneed,  ///< MADV_DONTNEED: the mapping's page; contents of shared memory stay
  remove,    ///< MADV_REMOVE: the page of the memfd, from every mapping; announced in this one
  punch,     ///< fallocate: the same, announced nowhere
};

struct BalloonConfig {
  double rate_per_s = 0.0;  ///< pages; 0: off
  std::string method = "dontneed";
  bool track_removes = false;  ///< UFFD_FEATURE_EVENT_REMOVE: a reader marks what is dropped in the page record
  bool stale_stage2 = false;   ///< leaves the emulated stage-2 entry of a dropped page, which KVM would not
};

struct MigratorConfig {
  double rate_per_s = 0.0;  ///< guest pages; 0: off
  std::uint32_t fragment_mib = 64;
};

struct MmapWritersConfig {
  std::uint32_t threads = 0;
  double rate_per_s = 0.0;  ///< mmap and munmap pairs of all threads
  std::uint32_t map_kib = 2048;
};

struct DevicesConfig {
  std::uint32_t threads = 0;
  double rate_per_s = 0.0;  ///< accesses of all threads
  bool second_mapping = false;
};

struct DisturbConfig {
  BalloonConfig balloon;
  MigratorConfig migrator;
  MmapWritersConfig mmap_writers;
  DevicesConfig devices;
};

/// One mapping of the guest, as a disturbance sees it.
struct GuestView {
  std::byte* region = nullptr;
  PageRecord record;
  std::byte* at(const Guest& guest, std::uint64_t page) const noexcept { return region + guest.layout().offset(page); }
};

/// What disturbances work on: a VMM process's part of a guest.
struct Scene {
  const Guest& guest;
  std::uint32_t vmm;                        ///< number of the VMM process
  GuestView vcpus;                          ///< the mapping that the vCPUs touch
  GuestView devices;                        ///< the one that devices reach: the same, or a second one
  DroppedPages* dropped = nullptr;          ///< notes what the balloon drops; null: a page server of ours reads the events
  PopulateFirst* populate_first = nullptr;  ///< what a restored guest waits for before its first access; null: nothing
};

/// What ends and holds all disturbances of a VMM process.
struct DisturbControl {
  std::atomic<bool> over{false};
  FutexWord hold_until{0};                ///< they rest until so many rounds have been released
  std::atomic<std::uint32_t> resting{0};  ///< threads that do
};

/// One thread of a disturbance: its pace, and what it has done.
class Disturber {
 public:
  Disturber(const Guest& guest, DisturbControl& control, double rate_per_s)
      : guest_(guest), control_(control), rate_per_s_(rate_per_s) {}

  /// Waits until the next unit is due; false when it is time to end.
  bool next();
  // relaxed: nothing is read behind it
  bool ending() const noexcept { return control_.over.load(std::memory_order_relaxed) || guest_.stopping(); }

  Counters counters;
  std::atomic<bool> ended{false};
  std::uint64_t done = 0;  ///< units that count as achieved
  std::uint64_t wrong_words = 0;
  std::string first_wrong;
  DurationHistogram sleeps;  ///< how long those of its accesses took that slept in the kernel
  Ticks longest_sleep = 0;
  Ticks rested = 0;  ///< between rounds

 private:
  friend class Disturbances;
  void rest();  ///< until the round that it is held for is released

  const Guest& guest_;
  DisturbControl& control_;
  double rate_per_s_;
  Ticks due_ = 0;
};

class Disturbance {
 public:
  virtual ~Disturbance() = default;
  virtual const char* role() const = 0;  ///< of its threads
  virtual std::uint32_t threads() const { return 1; }
  virtual double rate_per_s() const = 0;  ///< of all its threads
  /// Whether the guest does it: it then begins when the guest is restored, as its vCPUs do.
  virtual bool of_guest() const { return false; }
  /// One thread's work, until next() is false. May throw: the run then fails with what was thrown.
  virtual void work(std::uint32_t number, Disturber& me) = 0;
};

/// Null where the configuration does not ask for it. Throw ConfigError, KernelError.
std::unique_ptr<Disturbance> make_balloon(const DisturbConfig& config, const Scene& scene);
std::unique_ptr<Disturbance> make_migrator(const DisturbConfig& config, const Scene& scene);
std::unique_ptr<Disturbance> make_mmap_writers(const DisturbConfig& config, const Scene& scene);
std::unique_ptr<Disturbance> make_devices(const DisturbConfig& config, const Scene& scene);

DropMethod drop_method(const std::string& name);  ///< throws ConfigError with the list

}  // namespace uffd
