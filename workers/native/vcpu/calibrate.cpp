#include "vcpu/calibrate.hpp"

#include <cerrno>

#include "kernel/clock.hpp"
#include "kernel/error.hpp"
#include "kernel/userfaultfd.hpp"
#include "kernel/vocabulary.hpp"
#include "resolve/emulation.hpp"
#include "vcpu/signals.hpp"
#include "vcpu/touch.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kHugePageBytes = 2 << 20;

/// A page as most exits of a guest find it: missing in anonymous memory, in the page cache and not mapped in the others.
struct CalibrationPage {
  Mapping mapping;
  std::uint64_t features = 0;
  std::uint64_t mode = UFFDIO_REGISTER_MODE_MISSING;

  explicit CalibrationPage(MemoryType memory) {
    if (memory == MemoryType::anon) {
      mapping = Mapping::anonymous(kBasePageBytes, kBasePageBytes);
      return;
    }
    const bool huge = memory == MemoryType::hugetlb;
    const std::uint64_t bytes = huge ? kHugePageBytes : kBasePageBytes;
    const Descriptor fd = make_memfd("uffd-loadgen-calibration", bytes, huge);
    *Mapping::shared(fd.get(), bytes).data() = std::byte{1};
    mapping = Mapping::shared(fd.get(), bytes);
    features = huge ? UFFD_FEATURE_MINOR_HUGETLBFS : UFFD_FEATURE_MINOR_SHMEM;
    mode = UFFDIO_REGISTER_MODE_MINOR;
  }
};

double ns_per_round(Ticks ticks, std::uint64_t rounds) {
  return static_cast<double>(ticks) * 1e9 / Clock::get().ticks_per_s() / static_cast<double>(rounds);
}

}  // namespace

double calibrate_exit(ExitKind kind, MemoryType memory, std::uint64_t rounds) {
  if (kind == ExitKind::none || rounds == 0) return 0.0;
  install_handlers();
  const Clock& clock = Clock::get();
  const CalibrationPage calibration(memory);
  const Mapping& page = calibration.mapping;
  if (kind == ExitKind::probe) {
    open_pagemap();
    const Ticks before = clock.now();
    for (std::uint64_t i = 0; i < rounds; ++i)
      if (present(page.data())) break;
    const double ns = ns_per_round(clock.now() - before, rounds);
    close_pagemap();
    return ns;
  }
  // The kernel refuses to sleep for a missing page, again and again: no page is ever installed. As the error of a populate,
  // or as a SIGBUS taken at a touch and returned from past it.
  Userfaultfd fd(UFFD_FEATURE_SIGBUS | calibration.features);
  fd.register_range(page.address(), page.bytes(), calibration.mode);
  if (kind == ExitKind::populate) {
    std::uint64_t refused = 0;
    const Ticks before = clock.now();
    for (std::uint64_t i = 0; i < rounds; ++i) refused += populate(page.data(), page.bytes()) == EFAULT;
    const Ticks after = clock.now();
    if (refused != rounds) throw KernelError("calibration: populating a missing page of a SIGBUS mapping did not fail", EINVAL);
    return ns_per_round(after - before, rounds);
  }
  std::uint64_t taken = 0;
  give_up_touches(&taken);
  const Ticks before = clock.now();
  for (std::uint64_t i = 0; i < rounds; ++i) touch_read(reinterpret_cast<const std::uint64_t*>(page.data()));
  const Ticks after = clock.now();
  give_up_touches(nullptr);
  if (taken != rounds) throw KernelError("calibration: a touch of a missing page did not raise SIGBUS", EINVAL);
  return ns_per_round(after - before, rounds);
}

}  // namespace uffd
