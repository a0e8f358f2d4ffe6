#include "vcpu/thread_engine.hpp"

#include <csignal>

#include "resolve/emulation.hpp"
#include "vcpu/page_check.hpp"
#include "vcpu/signals.hpp"
#include "vcpu/touch.hpp"
#include "vcpu/vcpu.hpp"

namespace uffd {

namespace {

class ThreadSeat final : public Engine::Seat {
 public:
  explicit ThreadSeat(Vcpu& vcpu) : vcpu_(vcpu), books_(vcpu.books()), touching_(vcpu) {}

  void walk() override {
    for (std::uint32_t pass = 0; pass < vcpu_.access_config().passes; ++pass) {
      vcpu_.order().rewind();
      if (!this->pass()) return;
      vcpu_.end_of_pass();
    }
  }

 private:
  /// What an access to a mapped page needs and a pass does not change. On the stack of pass(): the miss of a touch is hidden by
  /// the misses of the touches after it, as many as the processor's buffers have room for beside all else that an access does. To
  /// reach these members through vcpu_ would be loads that the compiler has to repeat after each touch.
  struct Walk {
    explicit Walk(Vcpu& vcpu, bool due) noexcept
        : vcpu(vcpu),
          state(vcpu.state()),
          stopping(vcpu.books().guest.header().stopping),
          pages(vcpu.books().pages),
          contents(vcpu.books().contents),
          region(vcpu.books().region),
          layout(vcpu.books().layout),
          entered(vcpu.vmm().exit < ExitKind::probe),
          noted(due || vcpu.books().dropped != nullptr || vcpu.notes_all()) {}

    Vcpu& vcpu;
    VcpuState& state;
    const FutexWord& stopping;
    PageRecord pages;
    Contents contents;
    std::byte* region;
    PageLayout layout;
    bool entered;  ///< there is no emulated stage-2 table
    bool noted;    ///< every access is, also one to a mapped page

    std::uint64_t* word(std::uint64_t page, std::uint64_t base) const noexcept {
      return reinterpret_cast<std::uint64_t*>(region + layout.offset(page)) + contents.touched_word(base);
    }
  };

  bool pass();
  template <bool kPlain>
  bool pass_of();
  bool access(Walk& walk, std::uint64_t page, bool read, Ticks due) noexcept;
  bool enter_stage2(std::uint64_t page) noexcept;

  Vcpu& vcpu_;
  const Books& books_;
  Touching touching_;
};

// False: the run is being stopped.
bool ThreadSeat::pass() {
  const bool plain = !vcpu_.arrivals().open_loop() && books_.think == 0 && books_.verify != Verify::page;
  return plain ? pass_of<true>() : pass_of<false>();
}

/// `kPlain`: back to back, and no page is verified as a whole.
template <bool kPlain>
[[gnu::hot]] bool ThreadSeat::pass_of() {
  Vcpu& vcpu = vcpu_;
  const Ticks think = books_.think;
  const bool whole_page = books_.verify == Verify::page;
  AccessOrder& order = vcpu.order();
  Arrivals& arrivals = vcpu.arrivals();
  const bool open_loop = !kPlain && arrivals.open_loop();
  Walk walk(vcpu, open_loop);
  for (std::uint64_t left = order.per_pass(); left != 0; --left) {
    if (walk.stopping.load(std::memory_order_acquire) != 0) return false;
    const std::uint64_t page = order.next_page();
    const bool read = order.next_is_read();
    if (kPlain) {
      access(walk, page, read, 0);
      vcpu.count_here(walk.state);
      continue;
    }
    if (open_loop && !vcpu.wait_until(arrivals.due())) return false;
    if (access(walk, page, read, open_loop ? arrivals.due() : 0) && whole_page) vcpu.found_wrong(wrong_words_of(vcpu, page));
    if (open_loop) arrivals.advance();
    vcpu.count_here(walk.state);
    if (think != 0 && !vcpu.wait_until(Clock::get().now() + think)) return false;
  }
  return true;
}

/// False: it was given up, or its word is wrong.
[[gnu::always_inline]] inline bool ThreadSeat::access(Walk& walk, std::uint64_t page, bool read, Ticks due) noexcept {
  Vcpu& vcpu = walk.vcpu;
  const std::uint8_t known = walk.pages.byte(page);
  const std::uint64_t base = walk.contents.base(page);
  std::uint64_t* const word = walk.word(page, base);
  if (!walk.noted && PageRecord::no_fault(known, walk.entered)) [[likely]] {
    vcpu.touch_mapped(walk.state, page, !read);
    const std::uint64_t value = read ? touch_read(word) : touch_write(word);
    if (vcpu.found_mapped(walk.state)) [[likely]]
      return vcpu.finish_mapped(page, value, base);
    walk.noted = true;
    return vcpu.finish_late(value, base);
  }
  vcpu.raise_here(page, known, !read, due);
  std::uint64_t value = 0;
  if (walk.entered || PageRecord::in_stage2(known) || enter_stage2(page)) value = read ? touch_read(word) : touch_write(word);
  return vcpu.finish_here(value, base);
}

// The emulated stage-2 violation: the page is in the table afterwards, or the access is given up (false).
[[gnu::hot]] bool ThreadSeat::enter_stage2(std::uint64_t page) noexcept {
  const VmmShared& vmm = vcpu_.vmm();
  std::byte* at = vcpu_.books().at(page);
  const bool probe = vmm.exit == ExitKind::probe;
  const EmulatedBy by = emulated_by(vmm.exit);
  while (true) {
    int populate_error = Situation::kNotTried;
    if (probe ? vcpu_.locks().during(LockCause::probe, [at] { return present(at); })
              : (populate_error = vcpu_.locks().during(LockCause::populate, [&] { return populate(at, vmm.page_bytes); })) == 0) {
      vcpu_.made_entry(by.entry);
      break;
    }
    vcpu_.made_exit(by.exit);
    switch (vcpu_.on_exit(probe ? Exit::probe : Exit::populate, populate_error)) {
      case Verdict::run_again:
      case Verdict::undecided: continue;
      case Verdict::mapped: break;
      case Verdict::abandon: vcpu_.abandon(); return false;
    }
    break;
  }
  vmm.resolver.record().enter_stage2(page);
  return true;
}

}  // namespace

ThreadEngine::ThreadEngine(const EngineSetup&) { install_handlers(); }

std::unique_ptr<Engine::Seat> ThreadEngine::enter(Vcpu& vcpu) { return std::make_unique<ThreadSeat>(vcpu); }

void ThreadEngine::kick(std::uint32_t, pthread_t thread) noexcept { ::pthread_kill(thread, kick_signal()); }

namespace {

const RegisterEngine registered({
    .name = "thread",
    .summary = "a vCPU is a thread that touches the mapping; its exits are emulated (SIGBUS, pagemap probe)",
    .make = [](const EngineSetup& setup) -> std::unique_ptr<Engine> { return std::make_unique<ThreadEngine>(setup); },
});

}  // namespace

}  // namespace uffd
