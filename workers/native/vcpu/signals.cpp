#include "vcpu/signals.hpp"

#include <csetjmp>
#include <csignal>
#include <mutex>
#include <utility>

#include "kernel/error.hpp"
#include "resolve/emulation.hpp"
#include "vcpu/touch.hpp"

namespace uffd {

namespace {

// Read in signal handlers: plain thread-locals of this object, reached without a call.
[[gnu::tls_model("initial-exec")]] thread_local Vcpu* current = nullptr;
[[gnu::tls_model("initial-exec")]] thread_local sigjmp_buf* guard = nullptr;
[[gnu::tls_model("initial-exec")]] thread_local RefusedTouches* calibrating = nullptr;
[[gnu::tls_model("initial-exec")]] thread_local const void* volatile memory_error_at = nullptr;

[[gnu::tls_model("initial-exec")]] thread_local bool passed_on = false;

struct sigaction previous_sigbus;

// Our handler blocks no signal, so a jump out of it has no mask to put back. The thread sanitizer's own, which calls it, blocks
// all.
#ifdef __SANITIZE_THREAD__
constexpr int kHandlerBlocks = 1;
#else
constexpr int kHandlerBlocks = 0;
#endif

/// To its previous owner, once a thread: a handler installed over ours (Ray's, when it starts) hands it back to ours when it is
/// done.
void pass_on(int signal, siginfo_t* info, void* context) {
  if (!std::exchange(passed_on, true)) {
    if (previous_sigbus.sa_flags & SA_SIGINFO) return previous_sigbus.sa_sigaction(signal, info, context);
    if (previous_sigbus.sa_handler != SIG_DFL && previous_sigbus.sa_handler != SIG_IGN) {
      return previous_sigbus.sa_handler(signal);
    }
  }
  ::signal(signal, SIG_DFL);
  ::raise(signal);  // not every SIGBUS is of an instruction that would fault again
}

[[gnu::hot]] void on_sigbus(int signal, siginfo_t* info, void* raw) {
  const int saved = errno;
  auto& context = *static_cast<ucontext_t*>(raw);
  if (interrupted_a_touch(context) && current != nullptr && current->owns(info->si_addr)) {
    current->note_late();
    if (current->vmm().exit == ExitKind::signal) current->made_exit(Emulated::signal);
    if (current->on_exit(Exit::signal) == Verdict::abandon) {
      current->abandon();
      abandon_touch(context);
    }
    errno = saved;
    leave_for_touch(context);
  } else if (interrupted_a_touch(context) && calibrating != nullptr) {
    if (!calibrating->handle(info->si_addr)) abandon_touch(context);
    errno = saved;
    leave_for_touch(context);
  } else if (guard != nullptr) {
    siglongjmp(*guard, 1);
  } else if (current != nullptr && info->si_code == BUS_MCEERR_AR && current->owns(info->si_addr)) {
    memory_error_at = info->si_addr;
  } else {
    pass_on(signal, info, raw);
  }
  errno = saved;
}

// A thread asleep in a user-mode fault is interruptible: the kernel delivers the signal with the instruction not done.
void on_kick(int, siginfo_t*, void* raw) {
  auto& context = *static_cast<ucontext_t*>(raw);
  if (current != nullptr && current->stopping() && interrupted_a_touch(context)) {
    current->note_late();
    current->abandon();
    abandon_touch(context);
  }
}

}  // namespace

Touching::Touching(Vcpu& vcpu) {
  if (vcpu.vmm().exit == ExitKind::probe) open_pagemap();
  if (has_shadow_stack()) return_by_kernel(true);
  current = &vcpu;
}

Touching::~Touching() {
  current = nullptr;
  close_pagemap();
}

const void* Touching::take_memory_error() noexcept {
  const void* at = memory_error_at;
  memory_error_at = nullptr;
  return at;
}

int kick_signal() { return SIGRTMIN + 5; }

void install_handlers() {
  static std::mutex installing;
  const std::lock_guard lock(installing);
  struct sigaction now{};
  if (::sigaction(SIGBUS, nullptr, &now) != 0) throw KernelError("sigaction of SIGBUS", errno);
  if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_sigbus) return;
  previous_sigbus = now;
  struct sigaction action{};
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  action.sa_sigaction = on_kick;
  if (::sigaction(kick_signal(), &action, nullptr) != 0) throw KernelError("sigaction of the kick signal", errno);
  action.sa_sigaction = on_sigbus;
  if (::sigaction(SIGBUS, &action, nullptr) != 0) throw KernelError("sigaction of SIGBUS", errno);
}

bool guarded(void (*body)(void*), void* argument) {
  sigjmp_buf jump;
  if (sigsetjmp(jump, kHandlerBlocks) != 0) {
    guard = nullptr;
    return false;
  }
  guard = &jump;
  body(argument);
  guard = nullptr;
  return true;
}

RefusedTouches::RefusedTouches(bool (*handle)(void*, std::byte*) noexcept, void* argument) noexcept
    : handle_(handle), argument_(argument) {
  calibrating = this;
}

RefusedTouches::~RefusedTouches() { calibrating = nullptr; }

}  // namespace uffd
