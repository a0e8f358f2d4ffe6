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
  bool pass();
  bool access(std::uint64_t page, bool read, Ticks due) noexcept;
  bool enter_stage2(std::uint64_t page) noexcept;

  Vcpu& vcpu_;
  const Books& books_;
  Touching touching_;
};

// False: the run is being stopped.
[[gnu::hot]] bool ThreadSeat::pass() {
  const Ticks think = books_.think;
  const bool whole_page = books_.verify == Verify::page;
  const Clock& clock = Clock::get();
  AccessOrder& order = vcpu_.order();
  Arrivals& arrivals = vcpu_.arrivals();
  const bool open_loop = arrivals.open_loop();
  for (std::uint64_t left = order.per_pass(); left != 0; --left) {
    if (vcpu_.stopping()) return false;
    const std::uint64_t page = order.next_page();
    const bool read = order.next_is_read();
    if (open_loop && !vcpu_.wait_until(arrivals.due())) return false;
    if (access(page, read, open_loop ? arrivals.due() : 0) && whole_page) vcpu_.found_wrong(wrong_words_of(vcpu_, page));
    if (open_loop) arrivals.advance();
    vcpu_.count_here();
    if (think != 0 && !vcpu_.wait_until(clock.now() + think)) return false;
  }
  return true;
}

/// False: it was given up, or its word is wrong.
[[gnu::always_inline]] inline bool ThreadSeat::access(std::uint64_t page, bool read, Ticks due) noexcept {
  const std::uint8_t known = books_.pages.byte(page);
  const std::uint64_t base = books_.contents.base(page);
  auto* word = reinterpret_cast<std::uint64_t*>(books_.at(page)) + books_.contents.touched_word(base);
  const bool in_stage2 = vcpu_.vmm().exit < ExitKind::probe || PageRecord::in_stage2(known);
  const bool mapped = in_stage2 && !PageRecord::faults(known) && books_.dropped == nullptr;
  if (mapped && due == 0 && !vcpu_.notes_all()) {
    vcpu_.touch_mapped(page, !read);
    const std::uint64_t value = read ? touch_read(word) : touch_write(word);
    return vcpu_.finish_mapped(page, value, base);
  }
  vcpu_.raise_here(page, known, !read, due);
  std::uint64_t value = 0;
  if (in_stage2 || enter_stage2(page)) value = read ? touch_read(word) : touch_write(word);
  return vcpu_.finish_here(value, base);
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
