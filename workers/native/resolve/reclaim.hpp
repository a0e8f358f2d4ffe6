// After a page server was killed: the pages it had claimed are settled, so that none stays in flight. It ran in another process
// and is gone with all its threads, so no other thread writes to a byte that carries its claim.
#pragma once

#include <cstdint>

#include "guest/guest.hpp"
#include "guest/page_record.hpp"

namespace uffd {

/// Every page of the mapping that is in flight by a page server becomes what it is in the kernel's pagemap: resolved, poisoned,
/// or unresolved. How many there were. Throws KernelError.
std::uint64_t reclaim(const Guest& guest, const Mapping& region, const PageRecord& record);

/// Whether a page of this kind is resolved before the clock starts.
bool resolved_at_start(const Guest& guest, std::uint64_t page) noexcept;

}  // namespace uffd
