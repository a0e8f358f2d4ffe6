// Exit after fast GUP fails: on a stage-2 fault only the PTE is looked at; if it is not present the vCPU is back in user space.
//   1. not resolved yet: resolve it without wake, run the vCPU again;
//   2. resolved before: swapped out, migrating or poisoned: MADV_POPULATE_WRITE runs slow GUP on our behalf;
//   3. that failed: a memory error.
// Reclaimed shared memory has a blank PTE (probed on 6.18): there the populate itself sleeps in userfaultfd until a reader
// installs the page once more. It is counted (populate_waits), and needs the reader.
#include "resolve/strategy.hpp"

namespace uffd {
namespace {

class NoSlowGup final : public Strategy {
 public:
  Action decide(const Situation& is) const noexcept override {
    switch (is.now) {
      case PageState::unresolved:
      case PageState::discarded: return Action::resolve;
      case PageState::in_flight: return Action::retry;
      case PageState::poisoned: return Action::memory_error;
      case PageState::resolved: break;
    }
    if (is.when_raised != PageState::resolved && is.attempt == 1) return Action::retry;  // a lost race
    return is.populate_error == Situation::kNotTried ? Action::populate : Action::memory_error;
  }
};

const RegisterStrategy registered({
    .name = "no_slow_gup",
    .summary = "exit when fast GUP fails: stage-2 table and PTE probe emulated, the mapping stays in sleeping mode",
    .exit = ExitKind::probe,
    .memory = {MemoryType::shmem, MemoryType::hugetlb, MemoryType::anon},
    .options = {fault_around_option(), page_record_option()},
    .make = [](const Options&) -> std::unique_ptr<Strategy> { return std::make_unique<NoSlowGup>(); },
});

}  // namespace
}  // namespace uffd
