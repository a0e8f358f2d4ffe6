#include "server/peer.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

std::uint64_t size_of(int fd) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) throw KernelError("fstat of a peer's memfd", errno);
  return static_cast<std::uint64_t>(status.st_size);
}

Descriptor duplicate(int fd) {
  Descriptor own(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!own.valid()) throw KernelError("dup of a userfaultfd", errno);
  return own;
}

std::vector<RegionView> checked(std::vector<RegionView> regions, const GuestConfig& guest) {
  if (regions.empty()) throw ConfigError("a peer names no region");
  for (const RegionView& view : regions)
    if (view.size == 0 || view.size % guest.page_bytes != 0 || view.offset % guest.page_bytes != 0 ||
        view.offset > guest.region_bytes || view.size > guest.region_bytes - view.offset || view.page_size < guest.page_bytes ||
        view.size % view.page_size != 0)
      throw ConfigError("a peer's region lies outside the guest region or is not a multiple of its pages");
  std::sort(regions.begin(), regions.end(),
            [](const RegionView& a, const RegionView& b) { return a.base_host_virt_addr < b.base_host_virt_addr; });
  return regions;
}

Mapping record_from(int fd, std::uint64_t pages) {
  if (fd < 0) return Mapping::anonymous((pages + kBasePageBytes - 1) / kBasePageBytes * kBasePageBytes, kBasePageBytes);
  if (size_of(fd) < pages) throw ConfigError("a peer's page record is smaller than the region");
  return Mapping::populated(fd, pages);
}

}  // namespace

Peer::Peer(const Guest& guest, int fd, std::vector<RegionView> regions, int vmm, int record_fd, int faults_fd,
           std::uint32_t fault_around_pages)
    : guest_(guest),
      uffd_(duplicate(fd)),
      regions_(checked(std::move(regions), guest.config())),
      vmm_(vmm),
      record_(record_from(record_fd, guest.pages())) {
  const GuestConfig& config = guest.config();
  if (faults_fd >= 0) {
    const std::uint64_t bytes = size_of(faults_fd);
    if (vmm < 0 || static_cast<std::uint32_t>(vmm) >= config.vcpus / config.vcpus_per_vmm)
      throw ConfigError("a peer claims to be VMM process " + std::to_string(vmm) + ", which the guest does not have");
    slots_per_vcpu_ = bytes / sizeof(FaultRecord) / config.vcpus_per_vmm;
    if (bytes != 0) faults_ = Mapping::populated(faults_fd, bytes);
  }
  std::vector<Shard> shards;
  for (const RegionView& view : regions_)
    shards.push_back({&uffd_, view.base_host_virt_addr, view.offset / config.page_bytes, view.size / config.page_bytes,
                      static_cast<std::uint32_t>(view.page_size / config.page_bytes)});
  resolver_.emplace(std::move(shards), PageRecord(reinterpret_cast<std::atomic<std::uint8_t>*>(record_.data())), config,
                    fault_around_pages, &guest);
}

[[gnu::hot]] std::optional<std::uint64_t> Peer::page_at(std::uint64_t address) const noexcept {
  const auto after =
      std::upper_bound(regions_.begin(), regions_.end(), address,
                       [](std::uint64_t wanted, const RegionView& view) { return wanted < view.base_host_virt_addr; });
  if (after == regions_.begin()) return std::nullopt;
  const RegionView& view = *std::prev(after);
  if (address - view.base_host_virt_addr >= view.size) return std::nullopt;
  const std::uint64_t offset = address - view.base_host_virt_addr;
  return (view.offset + (offset & ~(view.page_size - 1))) / guest_.config().page_bytes;
}

// The vCPU sleeps, so the slot it named before it touched is the one of this fault, unless another thread's resolve has woken it
// meanwhile: then the slot may be another page's, which the check finds. A slot is never used twice in a run, so a late store
// spoils nothing.
[[gnu::hot]] FaultRecord* Peer::record_of(std::uint32_t vcpu, std::uint64_t page) const noexcept {
  const std::uint32_t per_vmm = guest_.config().vcpus_per_vmm;
  if (faults() == nullptr || static_cast<std::uint32_t>(vmm_) != vcpu / per_vmm) return nullptr;
  const std::uint64_t slot = guest_.vcpu(vcpu).slot.load(std::memory_order_acquire);
  if (slot >= slots_per_vcpu_) return nullptr;
  FaultRecord* record = faults() + (vcpu % per_vmm) * slots_per_vcpu_ + slot;
  // relaxed: stored before `slot`, which was acquired
  return record->page.load(std::memory_order_relaxed) == static_cast<std::uint32_t>(page) ? record : nullptr;
}

void Peer::wake_all() const noexcept {
  for (const RegionView& view : regions_) uffd_.wake(view.base_host_virt_addr, view.size);
}

}  // namespace uffd
