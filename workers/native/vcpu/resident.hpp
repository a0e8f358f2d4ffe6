// Which pages of a VMM process's mapping are there when the vCPUs have ended, as pagemap says: mapped, or in swap.
#pragma once

#include <vector>

#include "guest/guest.hpp"
#include "guest/page_record.hpp"
#include "kernel/mapping.hpp"

namespace uffd {

class Resident {
 public:
  Resident() = default;
  /// Throws KernelError.
  Resident(const Guest& guest, const Mapping& region);

  bool has(std::uint64_t page) const noexcept { return page < pages_.size() && pages_[page]; }
  /// Pages that are there and that no vCPU has touched; 0 of a run that was stopped, whose sleepers have made pages of zeros.
  std::uint64_t untouched(const Guest& guest, const PageRecord& record) const noexcept;

 private:
  std::vector<bool> pages_;
};

}  // namespace uffd
