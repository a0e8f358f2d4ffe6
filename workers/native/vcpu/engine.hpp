// What the vCPUs of a VMM process run on: how they touch pages, and how an exit comes back. Strategies, records and the page
// server do not depend on it. An engine is called once a run for each vCPU, never on the measured path.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "kernel/mapping.hpp"
#include "resolve/strategy.hpp"

namespace uffd {

class Vcpu;
class Guest;
struct VmmShared;

/// What an engine is given of its VMM process.
struct EngineSetup {
  const Guest& guest;
  const VmmShared& vmm;
  const Mapping& region;  ///< the vCPUs' mapping
  const Mapping& record;  ///< a byte a page
  const Mapping& faults;  ///< `record_capacity` + 1 fault records a vCPU, one vCPU after the other
  std::uint32_t first_vcpu;
  std::uint32_t vcpus;
  Options options;
};

class Engine {
 public:
  virtual ~Engine() = default;

  /// One vCPU on the thread that runs it; the thread is a vCPU's for as long as this lives.
  class Seat {
   public:
    virtual ~Seat() = default;
    /// Before the start barrier of each round, the first one too: the page states are prepared, and no vCPU walks yet.
    virtual void begin_round() {}
    /// All passes of the access order. Returns early when the run is being stopped. Throws KernelError.
    virtual void walk() = 0;
  };
  /// On the vCPU's own thread, before the start barrier. Throws KernelError, ConfigError.
  virtual std::unique_ptr<Seat> enter(Vcpu& vcpu) = 0;
  /// Makes a vCPU that sleeps or runs see that the run is being stopped.
  virtual void kick(std::uint32_t vcpu, pthread_t thread) noexcept = 0;
};

struct EngineInfo {
  std::string name;
  std::string summary;
  bool emulates_exits = true;  ///< an exit costs what its emulation costs
  std::vector<Option> options;
  std::unique_ptr<Engine> (*make)(const EngineSetup&) = nullptr;
};

/// Every engine of this build, by name.
const std::map<std::string, EngineInfo>& engines();
/// Throws ConfigError with the list of names.
const EngineInfo& engine_info(const std::string& name);

struct RegisterEngine {
  explicit RegisterEngine(EngineInfo info);
};

}  // namespace uffd
