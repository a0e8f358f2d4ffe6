// No userfaultfd at all: plain memory, the kernel's own minor faults. It measures the generator's floor.
#include "resolve/strategy.hpp"

namespace uffd {
namespace {

class Null final : public Strategy {
 public:
  Action decide(const Situation&) const noexcept override { return Action::retry; }
};

const RegisterStrategy registered({
    .name = "null",
    .summary = "no userfaultfd: the floor of the generator and of the kernel's own minor fault",
    .exit = ExitKind::none,
    .userfaultfd = false,
    .memory = {MemoryType::shmem, MemoryType::hugetlb},
    .make = [](const Options&) -> std::unique_ptr<Strategy> { return std::make_unique<Null>(); },
});

}  // namespace
}  // namespace uffd
