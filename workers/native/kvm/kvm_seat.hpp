// One KVM vCPU on its thread.
#pragma once

#include <memory>

#include "kvm/guest_job.hpp"
#include "kvm/vm.hpp"
#include "vcpu/engine.hpp"

namespace uffd {

/// On the vCPU's own thread: starts its guest. Throws KernelError, ConfigError.
std::unique_ptr<Engine::Seat> make_kvm_seat(Vcpu& vcpu, Vm& vm, const EngineSetup& setup);

}  // namespace uffd
