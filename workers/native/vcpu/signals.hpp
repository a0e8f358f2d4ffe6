// The two signals of a vCPU's thread: SIGBUS, by which an exit arrives at a touch, and the kick, which ends a sleep in one.
#pragma once

#include <cstdint>

#include "vcpu/vcpu.hpp"

namespace uffd {

/// SIGBUS and kicks at a touch are `vcpu`'s while this lives, on the thread that made it. Throws KernelError.
class Touching {
 public:
  explicit Touching(Vcpu& vcpu);
  ~Touching();
  /// The address the kernel has sent this thread a memory error for since the last call, while it was not touching: KVM_RUN
  /// came upon poison. nullptr: none.
  static const void* take_memory_error() noexcept;
  Touching(const Touching&) = delete;
  Touching& operator=(const Touching&) = delete;
};

/// The process's handlers for SIGBUS (chained to the one before) and for the kick. Installs them again where another handler has
/// been put over them: Ray does that when it starts. Throws KernelError.
void install_handlers();
/// The signal that interrupts a vCPU thread asleep in a touch.
int kick_signal();

/// Runs `body` with SIGBUS caught: false when it was cut short by one. For what reads pages without touching them, where the
/// handlers are installed.
bool guarded(void (*body)(void*), void* argument);

/// While it lives, the touches of this thread that the kernel refuses with SIGBUS and no vCPU owns are `handle`'s: true has the
/// touch made again, false gives it up. For calibrations.
class RefusedTouches {
 public:
  RefusedTouches(bool (*handle)(void*, std::byte*) noexcept, void* argument) noexcept;
  ~RefusedTouches();
  bool handle(void* address) const noexcept { return handle_(argument_, static_cast<std::byte*>(address)); }
  RefusedTouches(const RefusedTouches&) = delete;
  RefusedTouches& operator=(const RefusedTouches&) = delete;

 private:
  bool (*handle_)(void*, std::byte*) noexcept;
  void* argument_;
};

}  // namespace uffd
