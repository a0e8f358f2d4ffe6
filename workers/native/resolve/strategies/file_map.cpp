// What a VMM does today that restores a snapshot lazily without userfaultfd: a private mapping of the snapshot file, and the
// kernel's page cache, read-ahead and copy on write do the rest. Its faults leave no record; the first touch of a page is
// counted.
#include "resolve/strategy.hpp"

namespace uffd {
namespace {

class FileMap final : public Strategy {
 public:
  Action decide(const Situation&) const noexcept override { return Action::retry; }
};

const RegisterStrategy registered({
    .name = "file_map",
    .summary = "a private mapping of the snapshot file, no userfaultfd: the kernel reads the pages",
    .exit = ExitKind::none,
    .userfaultfd = false,
    .restore = Restore::file_map,
    .memory = {MemoryType::file},
    .make = [](const Options&) -> std::unique_ptr<Strategy> { return std::make_unique<FileMap>(); },
});

}  // namespace
}  // namespace uffd
