// One KVM vCPU on its thread.
#pragma once

#include <cstdint>
#include <memory>

#include "kvm/vm.hpp"
#include "vcpu/engine.hpp"

namespace uffd {

/// The slots of a VM's layout, in this order.
enum class KvmSlot : std::size_t { region, shared, record, faults };

/// Accesses that a guest is asked for at a time: each time it is asked for more is an exit of its own.
inline constexpr std::uint64_t kKvmAccessesAtOnce = 256;

/// On the vCPU's own thread: starts its guest. Throws KernelError, ConfigError.
std::unique_ptr<Engine::Seat> make_kvm_seat(Vcpu& vcpu, Vm& vm, const EngineSetup& setup);

}  // namespace uffd
