#include "vmm/registration.hpp"

#include <sys/mman.h>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"
#include "source/snapshot.hpp"

namespace uffd {

namespace {

Mapping map_memory(const Guest& guest, const std::string& snapshot) {
  const GuestConfig& config = guest.config();
  switch (config.memory) {
    case MemoryType::anon: return Mapping::anonymous(config.region_bytes, kHugePageBytes);
    case MemoryType::file: return Mapping::private_of(open_snapshot(snapshot, config.region_bytes).get(), config.region_bytes);
    case MemoryType::shmem:
    case MemoryType::hugetlb: break;
  }
  return Mapping::shared(guest.region_fd(), config.region_bytes);
}

Mapping map_region(const Guest& guest, const std::string& snapshot) {
  const GuestConfig& config = guest.config();
  Mapping region = map_memory(guest, snapshot);
  if (config.memory != MemoryType::hugetlb) {
    if (config.transparent_huge_pages)
      region.advise(MADV_HUGEPAGE, "madvise MADV_HUGEPAGE");
    else
      region.advise(MADV_NOHUGEPAGE, "madvise MADV_NOHUGEPAGE");
  }
  return region;
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
    : region(map_region(guest, plan.snapshot)),
      page_bytes(guest.config().page_bytes),
      mode(UFFDIO_REGISTER_MODE_MISSING | (guest.config().memory == MemoryType::anon ? 0 : UFFDIO_REGISTER_MODE_MINOR)) {
  const std::uint64_t features = userfaultfd_features(guest.config().memory, plan.features);
  for (std::uint64_t i = 0; i < plan.uffds; ++i) {
    const std::uint64_t first = guest.pages() * i / plan.uffds;
    const std::uint64_t count = guest.pages() * (i + 1) / plan.uffds - first;
    shards.push_back({nullptr, region.address() + first * page_bytes, first, count});
    if (!plan.userfaultfd) continue;
    uffds.push_back(std::make_unique<Userfaultfd>(features));
    shards.back().uffd = uffds.back().get();
  }
  register_again();
}

void Registration::register_again() {
  for (std::size_t i = 0; i < uffds.size(); ++i) uffds[i]->register_range(shards[i].address, shards[i].pages * page_bytes, mode);
}

void Registration::end_sleepers() const noexcept {
  for (const Shard& shard : shards)
    if (shard.uffd != nullptr) shard.uffd->unregister_range(shard.address, shard.pages * page_bytes);
}

}  // namespace uffd
