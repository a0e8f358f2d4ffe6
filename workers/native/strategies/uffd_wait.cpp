// Today's kernel: the vCPU sleeps in handle_userfault() until a reader of the page server has resolved the page and woken it.
// It never exits, so there is nothing to decide here; the decision is the reader's.
#include "strategy.hpp"

namespace uffd {
namespace {

class UffdWait final : public Strategy {
 public:
  Action decide(const Situation&) const noexcept override { return Action::retry; }
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
