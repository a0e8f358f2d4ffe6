// The PF_NO_UFFD_WAIT proposal: slow GUP runs as today, only handle_userfault() refuses to sleep and the access fails.
//   1. not resolved yet: resolve it without wake, run the vCPU again;
//   2. resolved before: slow GUP already ran and failed, so this is a memory error, except where a race or the kernel's
//      own reclaim explains it.
// Before anything is resolved a second time the kernel is asked whether it is poison (MADV_POPULATE_WRITE fails with EHWPOISON):
// a blind resolve would un-poison the page (probed on 6.18).
#include <cerrno>

#include "kernel/vocabulary.hpp"
#include "resolve/strategy.hpp"

namespace uffd {
namespace {

class NoUffdWait final : public Strategy {
 public:
  explicit NoUffdWait(bool populate) : populate_(populate) {}

  ExitKind exit(ExitKind usual) const noexcept override { return populate_ ? ExitKind::populate : usual; }

  Action decide(const Situation& is) const noexcept override {
    switch (is.now) {
      case PageState::unresolved:
      case PageState::discarded: return Action::resolve;
      case PageState::in_flight: return Action::retry;
      case PageState::poisoned: return Action::memory_error;
      case PageState::resolved: break;
    }
    // Resolved between the touch and this look: a lost race (about 8 % of the trips of overlapping vCPUs, probed on 6.18).
    if (is.when_raised != PageState::resolved && is.attempt == 1) return Action::retry;
    if (is.populate_error == Situation::kNotTried) return Action::populate;
    // Reclaim leaves a resolved page of shared memory with a blank PTE and the minor fault comes again (probed on 6.18). Only a
    // page that was mapped and is refused all the same is an error: exits spent on lost races and pending remove events are none.
    if (is.populate_error == EFAULT && is.memory != MemoryType::anon && is.installed_again < kTries) return Action::resolve_again;
    // It went with a remove event between the two looks, and another vCPU has resolved it since. Poison is no EFAULT.
    if (is.populate_error == EFAULT && is.drops_announced) return Action::retry;
    return Action::memory_error;
  }

 private:
  static constexpr std::uint32_t kTries = 8;
  bool populate_;
};

const RegisterStrategy registered({
    .name = "no_uffd_wait",
    .summary = "exit instead of sleeping: slow GUP runs, handle_userfault() refuses to wait (UFFD_FEATURE_SIGBUS)",
    .exit = ExitKind::signal,
    .features = UFFD_FEATURE_SIGBUS,
    .memory = {MemoryType::shmem, MemoryType::hugetlb, MemoryType::anon},
    .options = {fault_around_option(),
                page_record_option(),
                {"exit_via",
                 0,
                 0,
                 1,
                 "how the refused access comes back: as a SIGBUS, or as the error of MADV_POPULATE_WRITE",
                 {"signal", "populate"}}},
    .make = [](const Options& options) -> std::unique_ptr<Strategy> {
      return std::make_unique<NoUffdWait>(options.at("exit_via") == 1);
    },
});

}  // namespace
}  // namespace uffd
