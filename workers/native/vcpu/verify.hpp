// Reading every page a mapping has resolved, word for word, after the clock has stopped; and every poisoned one, which must
// refuse to be read. A guest whose contents are a snapshot's is compared with the file itself.
#pragma once

#include <cstdint>
#include <string>

#include "guest/dropped_pages.hpp"
#include "guest/guest.hpp"
#include "guest/page_record.hpp"
#include "vcpu/resident.hpp"

namespace uffd {

struct Verified {
  std::uint64_t pages = 0;     ///< read in full
  std::uint64_t poisoned = 0;  ///< refused to be read, as they must
  std::uint64_t gone = 0;      ///< recorded as resolved, and dropped: not touched since
  std::uint64_t wrong_words = 0;
  std::string first_wrong;
  double seconds = 0.0;
};

/// `resident`: of a guest whose handler is not ours; its mapped pages are read whether or not they were touched, unless the run
/// was stopped. `dropped`: pages that must be zeros; null: none. Throws KernelError when the snapshot cannot be read.
Verified verify_region(const Guest& guest, const Mapping& region, const PageRecord& record, const Resident& resident = {},
                       const DroppedPages* dropped = nullptr);

}  // namespace uffd
