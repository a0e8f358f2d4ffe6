// The thread engine: a vCPU is a thread that touches the mapping. An exit arrives as SIGBUS at the touching instruction
// (ExitKind::signal), or, before the touch, as a page that is not in the emulated stage-2 table and that pagemap says is not
// present (ExitKind::probe) or that MADV_POPULATE_WRITE could not get (ExitKind::populate).
#pragma once

#include "vcpu/engine.hpp"

namespace uffd {

class ThreadEngine final : public Engine {
 public:
  explicit ThreadEngine(const EngineSetup& setup);
  std::unique_ptr<Seat> enter(Vcpu& vcpu) override;
  void kick(std::uint32_t vcpu, pthread_t thread) noexcept override;
};

}  // namespace uffd
