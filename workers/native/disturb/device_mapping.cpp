#include "disturb/device_mapping.hpp"

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

Mapping second_mapping(const Guest& guest) {
  if (guest.region_fd() < 0)
    throw ConfigError("devices.mapping second: anonymous memory has one mapping only; use same, or another memory type");
  Mapping region = Mapping::shared(guest.region_fd(), guest.config().region_bytes);
  if (guest.config().memory == MemoryType::shmem)
    region.advise(guest.config().transparent_huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE, "madvise for huge pages");
  return region;
}

}  // namespace

DeviceMapping::DeviceMapping(const Guest& guest, std::uint64_t features)
    : region(second_mapping(guest)),
      uffd(features),
      record_fd(make_memfd("uffd-loadgen-device-record", guest.pages(), false)),
      record(Mapping::populated(record_fd.get(), guest.pages())) {
  uffd.register_range(region.address(), region.bytes(), UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR);
}

}  // namespace uffd
