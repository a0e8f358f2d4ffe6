#include "vcpu/resident.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kEntriesAtOnce = 1 << 15;

}  // namespace

Resident::Resident(const Guest& guest, const Mapping& region) : pages_(guest.pages()) {
  const Descriptor pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) throw KernelError("open of /proc/self/pagemap", errno);
  const PageLayout& layout = guest.layout();
  const std::uint64_t step = guest.config().page_bytes / kBasePageBytes;
  std::vector<std::uint64_t> entries(kEntriesAtOnce);
  for (std::uint64_t first = 0, end = 0; first < guest.pages(); first = end) {
    end = std::min(first + kEntriesAtOnce / step, layout.end_page(layout.region_of(first)));
    const std::uint64_t address = region.address() + layout.offset(first);
    const auto wanted = static_cast<ssize_t>((end - first) * step * sizeof entries[0]);
    const auto at = static_cast<off_t>(address / kBasePageBytes * sizeof entries[0]);
    if (::pread(pagemap.get(), entries.data(), static_cast<std::size_t>(wanted), at) != wanted)
      throw KernelError("pread of /proc/self/pagemap", errno, address);
    for (std::uint64_t page = first; page < end; ++page) pages_[page] = entries[(page - first) * step] >> 62 != 0;
  }
}

std::uint64_t Resident::untouched(const Guest& guest, const PageRecord& record) const noexcept {
  if (guest.stopping()) return 0;
  std::uint64_t count = 0;
  for (std::uint64_t page = 0; page < pages_.size(); ++page) count += pages_[page] && record.state(page) == PageState::unresolved;
  return count;
}

}  // namespace uffd
