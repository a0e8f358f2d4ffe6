// The thread engine: a vCPU is a thread that touches the mapping. An exit arrives as SIGBUS at the touching instruction
// (ExitKind::signal), or, before the touch, as a page that is not in the emulated stage-2 table and that pagemap says is not
// present (ExitKind::probe) or that MADV_POPULATE_WRITE could not get (ExitKind::populate).
#pragma once

#include <cstdint>

#include "vcpu/engine.hpp"
#include "vcpu/touch.hpp"
#include "vcpu/vcpu.hpp"

namespace uffd {

class ThreadEngine final : public Engine {
 public:
  explicit ThreadEngine(const EngineSetup& setup);
  std::unique_ptr<Seat> enter(Vcpu& vcpu) override;
  void kick(std::uint32_t vcpu, pthread_t thread) noexcept override;

  /// SIGBUS and stop signals at a touch are `vcpu`'s while this lives, on the thread that made it.
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

  /// One access to `word` of `page`, whose byte in the page record was `known`; the word read. After an abandoned one the
  /// value means nothing.
  [[gnu::always_inline]] static std::uint64_t touch(Vcpu& vcpu, std::uint64_t page, std::uint8_t known, std::uint64_t* word,
                                                    bool read) noexcept {
    if (vcpu.vmm().exit >= ExitKind::probe && !PageRecord::in_stage2(known) && !enter_stage2(vcpu, page)) return 0;
    return read ? touch_read(word) : touch_write(word);
  }

  /// The process's handlers for SIGBUS (chained to whoever had it) and for the signal that ends a sleep. Installs them again
  /// where somebody has put theirs over them: Ray does when it starts.
  static void install_handlers();
  /// The signal that interrupts a vCPU thread asleep in a touch.
  static int kick_signal();

 private:
  static bool enter_stage2(Vcpu& vcpu, std::uint64_t page) noexcept;
};

/// Runs `body` with SIGBUS caught: false when it was cut short by one. For the verification outside the clock.
bool guarded(void (*body)(void*), void* argument);

/// Nanoseconds one emulated exit costs on this machine and memory type: a SIGBUS taken at a touch and returned from, one
/// pagemap read, or a refused MADV_POPULATE_WRITE. Throws KernelError; hugetlb needs one free huge page.
double calibrate_exit(ExitKind kind, MemoryType memory, std::uint64_t rounds);

}  // namespace uffd
