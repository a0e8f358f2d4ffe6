#include "resolve/reclaim.hpp"

#include <fcntl.h>
#include <unistd.h>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"
#include "resolve/poison.hpp"

namespace uffd {

std::uint64_t reclaim(const Guest& guest, const Mapping& region, const PageRecord& record) {
  const std::uint8_t dead = PageRecord::reader_claim(guest.header().server_epoch.load(std::memory_order_acquire));
  const std::uint64_t page_bytes = guest.config().page_bytes;
  const Descriptor pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) throw KernelError("open of /proc/self/pagemap", errno);
  std::uint64_t reclaimed = 0;
  for (std::uint64_t page = 0; page < guest.pages(); ++page) {
    if (!PageRecord::claimed_by(record.byte(page), dead)) continue;
    ++reclaimed;
    std::uint64_t entry = 0;
    const std::uint64_t address = region.address() + guest.layout().offset(page);
    const auto offset = static_cast<off_t>(address / kBasePageBytes * sizeof entry);
    if (::pread(pagemap.get(), &entry, sizeof entry, offset) != sizeof entry)
      throw KernelError("pread of /proc/self/pagemap", errno, address, page_bytes);
    const bool present = entry >> 63 != 0;
    const bool swap_or_marker = (entry >> 62 & 1) != 0;
    if (swap_or_marker && poisoned_at_source(guest, page))
      record.poison(page);
    else if (present || swap_or_marker)
      record.resolve(page);
    else
      record.release(page);
  }
  guest.header().page_waiters.wake_all();
  return reclaimed;
}

bool resolved_at_start(const Guest& guest, std::uint64_t page) noexcept {
  switch (static_cast<Kind>(guest.kinds()[page])) {
    case Kind::hit:
    case Kind::swapped: return true;
    case Kind::poisoned: return guest.config().poisoned_when_resolved;
    case Kind::minor:
    case Kind::absent: return false;
  }
  return false;
}

}  // namespace uffd
