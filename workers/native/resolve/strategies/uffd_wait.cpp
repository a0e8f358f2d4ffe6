// Today's kernel: the vCPU sleeps in handle_userfault() until a reader of the page server has resolved the page and woken it.
// It comes back to user space for poison only, as a SIGBUS, and asks the kernel whether that is what it was.
#include "resolve/strategy.hpp"

namespace uffd {
namespace {

class UffdWait final : public Strategy {
 public:
  Action decide(const Situation& is) const noexcept override {
    if (is.now == PageState::poisoned) return Action::memory_error;
    if (is.now != PageState::resolved && is.attempt <= kTries) return Action::retry;
    return is.populate_error == Situation::kNotTried ? Action::populate : Action::memory_error;
  }

 private:
  static constexpr std::uint32_t kTries = 8;
};

const RegisterStrategy registered({
    .name = "uffd_wait",
    .summary = "sleep in userfaultfd until a reader resolves the page",
    .exit = ExitKind::none,
    .memory = {MemoryType::shmem, MemoryType::hugetlb, MemoryType::anon},
    .options = {fault_around_option()},
    .make = [](const Options&) -> std::unique_ptr<Strategy> { return std::make_unique<UffdWait>(); },
});

}  // namespace
}  // namespace uffd
