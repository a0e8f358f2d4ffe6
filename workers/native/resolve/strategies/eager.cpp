// What a VMM does that restores all of memory before it resumes the guest: the whole region is brought in and mapped before
// the first access, and then nothing faults. The clock starts with the restore, as it does for every other strategy: what
// others pay for fault by fault is paid here by the time to the first touch (populate_first.hpp).
#include "resolve/strategy.hpp"

namespace uffd {
namespace {

class Eager final : public Strategy {
 public:
  Action decide(const Situation&) const noexcept override { return Action::retry; }
};

const RegisterStrategy registered({
    .name = "eager",
    .summary = "bring in and map the whole region, then run the vCPUs: no userfaultfd, nothing faults",
    .exit = ExitKind::none,
    .userfaultfd = false,
    .restore = Restore::eager,
    .memory = {MemoryType::shmem, MemoryType::hugetlb, MemoryType::anon},
    .options = {{"populate_pages",
                 512,
                 1,
                 1 << 20,
                 "pages brought in and mapped at a time, one block after the other",
                 {},
                 OptionRole::populate}},
    .make = [](const Options&) -> std::unique_ptr<Strategy> { return std::make_unique<Eager>(); },
});

}  // namespace
}  // namespace uffd
