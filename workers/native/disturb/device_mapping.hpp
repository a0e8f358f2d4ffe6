// A second mapping of the guest region in a VMM process, for threads that cannot exit: its userfaultfd is in sleeping mode
// whatever the vCPUs' is, and a reader serves it. What is mapped is a fact of a mapping, so it has a page record of its own.
#pragma once

#include "guest/guest.hpp"
#include "guest/page_record.hpp"
#include "kernel/userfaultfd.hpp"

namespace uffd {

struct DeviceMapping {
  /// Throws ConfigError on anonymous memory, which has one mapping only; KernelError.
  DeviceMapping(const Guest& guest, std::uint64_t features);

  Mapping region;
  Userfaultfd uffd;
  Descriptor record_fd;
  Mapping record;

  PageRecord pages() const noexcept { return PageRecord(reinterpret_cast<std::atomic<std::uint8_t>*>(record.data())); }
  /// Ends registration: no thread sleeps on it any more.
  void end_sleepers() const noexcept { uffd.unregister_range(region.address(), region.bytes()); }
};

}  // namespace uffd
