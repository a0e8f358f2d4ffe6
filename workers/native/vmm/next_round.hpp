// Between two rounds: one VMM process's part in bringing every page back into the state its kind asks for.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "disturb/device_mapping.hpp"
#include "disturb/disturbances.hpp"
#include "guest/guest.hpp"
#include "guest/rounds.hpp"
#include "vcpu/vcpu.hpp"
#include "vmm/prepare.hpp"
#include "vmm/registration.hpp"

namespace uffd {

struct BetweenRounds {
  const Guest& guest;
  RoundsConfig config;
  double patience_s;  ///< the watchdog's; 0: for ever
  bool leads;         ///< the guest's first VMM process: it decides, and restores contents
  Registration& registration;
  bool tracks_removes;
  const Mapping& record;  ///< a byte a page
  const DeviceMapping* devices;
  Disturbances& disturbances;
  const std::vector<std::unique_ptr<Vcpu>>& vcpus;
  PrepareJob prepare;                      ///< of the vCPUs' mapping
  std::function<void()> credit_unclaimed;  ///< of the round just finished
  std::function<void()> forget_counted;    ///< the next round's pages are counted anew
};

class NextRound {
 public:
  explicit NextRound(const BetweenRounds& between) : is_(between) {}

  /// After this process's vCPUs have finished `finished` rounds: waits for the other VMM processes, prepares the page states, and
  /// lets the vCPUs go to the barrier. False: there is no further round, or the run is being stopped. Throws KernelError.
  bool prepare(std::uint32_t finished);
  /// Pages that could not be brought into their state, of all rounds but the first.
  std::uint64_t unprepared() const noexcept { return unprepared_; }

 private:
  bool meet(const char* what) { return uffd::meet(is_.guest, ++step_, is_.patience_s, what); }
  bool answered() const;
  void settle();
  void drop() const;

  BetweenRounds is_;
  std::uint32_t step_ = 0;
  std::uint64_t unprepared_ = 0;
};

}  // namespace uffd
