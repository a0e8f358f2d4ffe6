#include "vcpu/thread_engine.hpp"

#include <sys/syscall.h>

#include <csetjmp>
#include <csignal>
#include <mutex>
#include <utility>

#include "kernel/error.hpp"
#include "kernel/mapping.hpp"
#include "kernel/system_call.hpp"
#include "kernel/userfaultfd.hpp"
#include "kernel/vocabulary.hpp"
#include "resolve/emulation.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kHugePageBytes = 2 << 20;

// Read in signal handlers: plain thread-locals of this object, reached without a call.
[[gnu::tls_model("initial-exec")]] thread_local Vcpu* current = nullptr;
[[gnu::tls_model("initial-exec")]] thread_local sigjmp_buf* guard = nullptr;
[[gnu::tls_model("initial-exec")]] thread_local std::uint64_t* calibrating = nullptr;
[[gnu::tls_model("initial-exec")]] thread_local const void* volatile memory_error_at = nullptr;

[[gnu::tls_model("initial-exec")]] thread_local bool passed_on = false;

struct sigaction previous_sigbus;

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
    if (current->vmm().exit == ExitKind::signal) current->made_exit(Emulated::signal);
    if (current->on_exit(Exit::signal) == Verdict::abandon) {
      current->abandon();
      abandon_touch(context);
    }
    errno = saved;
    leave_for_touch(context);
  } else if (interrupted_a_touch(context) && calibrating != nullptr) {
    ++*calibrating;
    abandon_touch(context);
    errno = saved;
    leave_for_touch(context);
  } else if (current != nullptr && info->si_code == BUS_MCEERR_AR && current->owns(info->si_addr)) {
    memory_error_at = info->si_addr;
  } else if (guard != nullptr) {
    siglongjmp(*guard, 1);
  } else {
    pass_on(signal, info, raw);
  }
  errno = saved;
}

// A thread asleep in a user-mode fault is interruptible: the kernel delivers the signal with the instruction not done.
void on_kick(int, siginfo_t*, void* raw) {
  auto& context = *static_cast<ucontext_t*>(raw);
  if (current != nullptr && current->stopping() && interrupted_a_touch(context)) {
    current->abandon();
    abandon_touch(context);
  }
}

/// A page as most exits of a guest find it: missing in anonymous memory, in the page cache and not mapped in the others.
struct CalibrationPage {
  Mapping mapping;
  std::uint64_t features = 0;
  std::uint64_t mode = UFFDIO_REGISTER_MODE_MISSING;

  explicit CalibrationPage(MemoryType memory) {
    if (memory == MemoryType::anon) {
      mapping = Mapping::anonymous(kBasePageBytes, kBasePageBytes);
      return;
    }
    const bool huge = memory == MemoryType::hugetlb;
    const std::uint64_t bytes = huge ? kHugePageBytes : kBasePageBytes;
    const Descriptor fd = make_memfd("uffd-loadgen-calibration", bytes, huge);
    *Mapping::shared(fd.get(), bytes).data() = std::byte{1};
    mapping = Mapping::shared(fd.get(), bytes);
    features = huge ? UFFD_FEATURE_MINOR_HUGETLBFS : UFFD_FEATURE_MINOR_SHMEM;
    mode = UFFDIO_REGISTER_MODE_MINOR;
  }
};

double ns_per_round(Ticks ticks, std::uint64_t rounds) {
  return static_cast<double>(ticks) * 1e9 / Clock::get().ticks_per_s() / static_cast<double>(rounds);
}

}  // namespace

ThreadEngine::ThreadEngine(const EngineSetup&) { install_handlers(); }

ThreadEngine::Touching::Touching(Vcpu& vcpu) {
  if (vcpu.vmm().exit == ExitKind::probe) open_pagemap();
  current = &vcpu;
}

ThreadEngine::Touching::~Touching() {
  current = nullptr;
  close_pagemap();
}

const void* ThreadEngine::Touching::take_memory_error() noexcept {
  const void* at = memory_error_at;
  memory_error_at = nullptr;
  return at;
}

std::unique_ptr<Engine::Seat> ThreadEngine::enter(Vcpu& vcpu) {
  class ThreadSeat final : public Seat {
   public:
    explicit ThreadSeat(Vcpu& vcpu) : vcpu_(vcpu), touching_(vcpu) {}
    void walk() override { vcpu_.loop(); }

   private:
    Vcpu& vcpu_;
    Touching touching_;
  };
  return std::make_unique<ThreadSeat>(vcpu);
}

void ThreadEngine::kick(std::uint32_t, pthread_t thread) noexcept { ::pthread_kill(thread, kick_signal()); }

int ThreadEngine::kick_signal() { return SIGRTMIN + 5; }

void ThreadEngine::install_handlers() {
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

// The emulated stage-2 violation: the page is in the table afterwards, or the access is given up (false).
[[gnu::hot]] bool ThreadEngine::enter_stage2(Vcpu& vcpu, std::uint64_t page) noexcept {
  const VmmShared& vmm = vcpu.vmm();
  std::byte* at = vmm.region + page * vmm.page_bytes;
  const bool probe = vmm.exit == ExitKind::probe;
  const EmulatedBy by = emulated_by(vmm.exit);
  while (true) {
    int populate_error = Situation::kNotTried;
    if (probe ? vcpu.locks().during(LockCause::probe, [at] { return present(at); })
              : (populate_error = vcpu.locks().during(LockCause::populate, [&] { return populate(at, vmm.page_bytes); })) == 0) {
      vcpu.made_entry(by.entry);
      break;
    }
    vcpu.made_exit(by.exit);
    switch (vcpu.on_exit(probe ? Exit::probe : Exit::populate, populate_error)) {
      case Verdict::run_again:
      case Verdict::undecided: continue;
      case Verdict::mapped: break;
      case Verdict::abandon: vcpu.abandon(); return false;
    }
    break;
  }
  vmm.resolver.record().enter_stage2(page);
  return true;
}

bool guarded(void (*body)(void*), void* argument) {
  ThreadEngine::install_handlers();
  sigjmp_buf jump;
  if (sigsetjmp(jump, 1) != 0) {
    guard = nullptr;
    return false;
  }
  guard = &jump;
  body(argument);
  guard = nullptr;
  return true;
}

double calibrate_exit(ExitKind kind, MemoryType memory, std::uint64_t rounds) {
  if (kind == ExitKind::none || rounds == 0) return 0.0;
  ThreadEngine::install_handlers();
  const Clock& clock = Clock::get();
  const CalibrationPage calibration(memory);
  const Mapping& page = calibration.mapping;
  if (kind == ExitKind::probe) {
    open_pagemap();
    const Ticks before = clock.now();
    for (std::uint64_t i = 0; i < rounds; ++i)
      if (present(page.data())) break;
    const double ns = ns_per_round(clock.now() - before, rounds);
    close_pagemap();
    return ns;
  }
  // The kernel refuses to sleep for a missing page, again and again: no page is ever installed. As the error of a populate,
  // or as a SIGBUS taken at a touch and returned from past it.
  Userfaultfd fd(UFFD_FEATURE_SIGBUS | calibration.features);
  fd.register_range(page.address(), page.bytes(), calibration.mode);
  if (kind == ExitKind::populate) {
    std::uint64_t refused = 0;
    const Ticks before = clock.now();
    for (std::uint64_t i = 0; i < rounds; ++i) refused += populate(page.data(), page.bytes()) == EFAULT;
    const Ticks after = clock.now();
    if (refused != rounds) throw KernelError("calibration: populating a missing page of a SIGBUS mapping did not fail", EINVAL);
    return ns_per_round(after - before, rounds);
  }
  std::uint64_t taken = 0;
  calibrating = &taken;
  const Ticks before = clock.now();
  for (std::uint64_t i = 0; i < rounds; ++i) touch_read(reinterpret_cast<const std::uint64_t*>(page.data()));
  const Ticks after = clock.now();
  calibrating = nullptr;
  if (taken != rounds) throw KernelError("calibration: a touch of a missing page did not raise SIGBUS", EINVAL);
  return ns_per_round(after - before, rounds);
}

namespace {

const RegisterEngine registered({
    .name = "thread",
    .summary = "a vCPU is a thread that touches the mapping; its exits are emulated (SIGBUS, pagemap probe)",
    .make = [](const EngineSetup& setup) -> std::unique_ptr<Engine> { return std::make_unique<ThreadEngine>(setup); },
});

}  // namespace

}  // namespace uffd
