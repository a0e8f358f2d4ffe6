// Populate without resolving first, as was suggested for every exit: get the contents, then MADV_POPULATE_WRITE.
// It loops back: with userfaultfd registered, the populate itself drops into handle_userfault() and sleeps there.
// By UFFD_FEATURE_THREAD_ID the reader finds that the sleeper is a vCPU in the middle of its own populate (populate_waits), and
// one more resolve, the reader's, unblocks it.
#include "resolve/strategy.hpp"

namespace uffd {
namespace {

class Populate final : public Strategy {
 public:
  Action decide(const Situation& is) const noexcept override {
    if (is.now == PageState::poisoned) return Action::memory_error;
    if (is.populate_error != Situation::kNotTried) return Action::memory_error;
    return is.now == PageState::resolved ? Action::populate : Action::fetch_and_populate;
  }
};

const RegisterStrategy registered({
    .name = "populate",
    .summary = "exit when fast GUP fails, then MADV_POPULATE_WRITE without resolving first: it loops back into userfaultfd",
    .exit = ExitKind::probe,
    .kernel_faults = true,
    .memory = {MemoryType::shmem, MemoryType::hugetlb, MemoryType::anon},
    .options = {fault_around_option()},
    .make = [](const Options&) -> std::unique_ptr<Strategy> { return std::make_unique<Populate>(); },
});

}  // namespace
}  // namespace uffd
