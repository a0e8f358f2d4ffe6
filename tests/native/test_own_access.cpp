#include "check.hpp"
#include "kvm/own_access.hpp"
#include "kvm_guest.hpp"

using namespace uffd;

TEST("kvm: what KVM accesses by itself is served where it may sleep, and is no plain access where it may not") {
  needs_kvm();
  const std::vector<OwnAccess> tried = try_own_accesses();
#if defined(__x86_64__)
  CHECK_EQUAL(tried.size(), 8u);
#else
  CHECK_EQUAL(tried.size(), 4u);
#endif
  for (const OwnAccess& one : tried) {
    if (one.seen == kNotAvailable) continue;
    CHECK_EQUAL(one.events, one.refuses ? 0u : 1u);
    CHECK_EQUAL(one.seen == "done", !one.refuses);
    if (!one.refuses) continue;
    // KVM walks a guest's tables itself where it has no hardware to, and then no exit comes of it; it executes a guest's
    // instruction itself there too. Hardware would fault on either as on any page.
    const bool faults = one.seen == "memory_fault" || one.seen == "efault";
    if (one.access == "page_table") CHECK(faults || one.seen == "exception 14");
    if (one.access == "operand") CHECK(faults || one.seen == "mmio");
    if (one.access == "steal_time" || one.access == "clock") CHECK_EQUAL(one.seen, "lost");
  }
}
