#include "vmm/registration.hpp"

#include <sys/mman.h>

#include "guest/snapshot_file.hpp"
#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

Mapping map_memory(const Guest& guest, const std::string& snapshot) {
  const GuestConfig& config = guest.config();
  switch (config.memory) {
    case MemoryType::anon: return Mapping::anonymous(config.region_bytes, kHugePageBytes);
    case MemoryType::file:
      return Mapping::private_of(SnapshotFile(snapshot, config.region_bytes, config.page_bytes).fd(), config.region_bytes);
    case MemoryType::hugetlb:
      if (!config.in_memfd()) return Mapping::anonymous_huge(config.region_bytes);
      break;
    case MemoryType::shmem: break;
  }
  return Mapping::shared(guest.region_fd(), config.region_bytes);
}

/// Every region in a stretch of its own, where the layout has gaps.
Mapping map_apart(const Guest& guest) {
  const GuestConfig& config = guest.config();
  const PageLayout& layout = guest.layout();
  Mapping region = Mapping::reserved(layout.span_bytes(), kHugePageBytes);
  for (std::uint64_t i = 0; i < layout.regions(); ++i) {
    const std::uint64_t first = layout.first_page(i), pages = layout.end_page(i) - first;
    region.put(layout.offset(first), pages * config.page_bytes, guest.region_fd(), first * config.page_bytes,
               config.memory == MemoryType::hugetlb);
  }
  return region;
}

Mapping map_region(const Guest& guest, const std::string& snapshot) {
  const GuestConfig& config = guest.config();
  Mapping region = guest.layout().regions() == 1 ? map_memory(guest, snapshot) : map_apart(guest);
  // A memfd has its policy already, and the page cache is no part of the guest.
  if (!config.in_memfd() && config.memory != MemoryType::file) place_memory(region, config.numa);
  if (config.memory != MemoryType::hugetlb) {
    if (config.transparent_huge_pages)
      region.advise(MADV_HUGEPAGE, "madvise MADV_HUGEPAGE");
    else
      region.advise(MADV_NOHUGEPAGE, "madvise MADV_NOHUGEPAGE");
  }
  return region;
}

/// A handler that is not ours answers missing faults only.
std::uint64_t mode_of(const GuestConfig& config) {
  const bool minor = config.memory != MemoryType::anon && !config.external;
  return UFFDIO_REGISTER_MODE_MISSING | (minor ? UFFDIO_REGISTER_MODE_MINOR : 0);
}

}  // namespace

std::uint64_t userfaultfd_features(MemoryType memory, std::uint64_t own) {
  std::uint64_t features = own;
  if ((own & UFFD_FEATURE_SIGBUS) == 0) features |= UFFD_FEATURE_THREAD_ID;  // a reader finds the vCPU by it
  if (memory == MemoryType::shmem) features |= UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;
  if (memory == MemoryType::hugetlb) features |= UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MINOR_HUGETLBFS;
  return features;
}

Registration::Registration(const Guest& guest, const RegistrationPlan& plan)
    : region(map_region(guest, plan.snapshot)), page_bytes(guest.config().page_bytes), mode(mode_of(guest.config())) {
  if (guest.config().external)
    add_regions(guest, plan);
  else
    add_shards(guest, plan);
  register_again();
}

void Registration::add_shards(const Guest& guest, const RegistrationPlan& plan) {
  const std::uint64_t features = userfaultfd_features(guest.config().memory, plan.features);
  for (std::uint64_t i = 0; i < plan.uffds; ++i) {
    const std::uint64_t first = guest.pages() * i / plan.uffds;
    const std::uint64_t count = guest.pages() * (i + 1) / plan.uffds - first;
    shards.push_back({nullptr, region.address() + guest.layout().offset(first), first, count});
    if (!plan.userfaultfd) continue;
    uffds.push_back(std::make_unique<Userfaultfd>(features));
    shards.back().uffd = uffds.back().get();
  }
}

// As a VMM that is not ours does it: one userfaultfd over all regions, and no feature but what its balloon needs.
void Registration::add_regions(const Guest& guest, const RegistrationPlan& plan) {
  const PageLayout& layout = guest.layout();
  uffds.push_back(std::make_unique<Userfaultfd>(plan.features));
  for (std::uint64_t i = 0; i < layout.regions(); ++i) {
    const std::uint64_t first = layout.first_page(i);
    shards.push_back({uffds.back().get(), region.address() + layout.offset(first), first, layout.end_page(i) - first});
  }
}

void Registration::register_again() {
  for (const Shard& shard : shards)
    if (shard.uffd != nullptr) shard.uffd->register_range(shard.address, shard.pages * page_bytes, mode);
}

void Registration::end_sleepers() const noexcept {
  for (const Shard& shard : shards)
    if (shard.uffd != nullptr) shard.uffd->unregister_range(shard.address, shard.pages * page_bytes);
}

}  // namespace uffd
