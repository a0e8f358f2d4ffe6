#include "kvm/vm.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstring>

#include "kernel/error.hpp"
#include "kernel/system_call.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kGib = 1 << 30;
constexpr std::uint64_t kStackBytes = 16 << 10;
constexpr std::uint64_t kMostBytes = 256ull << 30;  // what every guest physical address width reaches

std::uint64_t up(std::uint64_t value, std::uint64_t to) { return (value + to - 1) / to * to; }

}  // namespace

Descriptor open_kvm() {
  Descriptor kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!kvm.valid())
    throw KernelError("open of /dev/kvm (engine=kvm needs it: `modprobe kvm`, and membership of the group kvm)", errno);
  if (::ioctl(kvm.get(), KVM_GET_API_VERSION, 0) != KVM_API_VERSION) throw KernelError("KVM_GET_API_VERSION is not 12", EINVAL);
  return kvm;
}

Vm::Vm(const VmLayout& layout) : kvm_(open_kvm()), vm_(::ioctl(kvm_.get(), KVM_CREATE_VM, 0)), slots_(layout.slots) {
  if (!vm_.valid()) throw KernelError("KVM_CREATE_VM", errno);
  std::uint64_t end = kGuestSlotsAt;
  for (GuestSlot& slot : slots_) {
    slot.at = end;
    end += up(slot.bytes, kGib);
  }
  if (end > kMostBytes)
    throw ConfigError("engine=kvm: the region does not fit a guest of 256 GiB: use a smaller memory.region_mib");
  const int most = ::ioctl(vm_.get(), KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
  if (most > 0 && layout.vcpus > static_cast<std::uint32_t>(most))
    throw ConfigError("engine=kvm: this kernel gives a VM at most " + std::to_string(most) +
                      " vCPUs: use a smaller vcpus_per_vmm");

  // The guest's own slot: tables, code, then for each vCPU traps, stack, GuestVcpu, accesses.
  const auto code_bytes = static_cast<std::uint64_t>(end_guest_byte - first_guest_byte);
  code_at_ = up(kGuestTablesAt + guest_tables_bytes(end), kBasePageBytes);
  const std::uint64_t vcpu_bytes = up(sizeof(GuestVcpu), kBasePageBytes);
  const std::uint64_t accesses_bytes = up(layout.accesses_per_vcpu * sizeof(GuestAccess), kBasePageBytes);
  const std::uint64_t corner_bytes = kBasePageBytes + kStackBytes + vcpu_bytes + accesses_bytes;
  const std::uint64_t corners_at = up(code_at_ + code_bytes, kBasePageBytes);
  own_memory_ = Mapping::anonymous(up(corners_at + layout.vcpus * corner_bytes, kBasePageBytes), kBasePageBytes);
  own_memory_.advise(MADV_POPULATE_WRITE, "madvise MADV_POPULATE_WRITE of the guest's own memory");
  own_ = {own_memory_.data(), own_memory_.bytes(), 0};
  if (own_.bytes > kGuestDoorbell)
    throw ConfigError(
        "engine=kvm: what the vCPUs of a VMM process need for themselves is more than 3 GiB: use a smaller vcpus_per_vmm");
  write_guest_tables(own_.host, end, code_at_, layout.kernel_mode);
  std::memcpy(own_.host + code_at_, first_guest_byte, code_bytes);

  add_slots(layout);

  const auto run_bytes = static_cast<std::uint64_t>(::ioctl(kvm_.get(), KVM_GET_VCPU_MMAP_SIZE, 0));
  for (std::uint32_t i = 0; i < layout.vcpus; ++i) {
    VmVcpu vcpu;
    vcpu.fd = Descriptor(::ioctl(vm_.get(), KVM_CREATE_VCPU, i));
    if (!vcpu.fd.valid()) throw KernelError("KVM_CREATE_VCPU", errno);
    vcpu.run_mapping = Mapping::shared(vcpu.fd.get(), run_bytes);
    vcpu.run = reinterpret_cast<kvm_run*>(vcpu.run_mapping.data());
    const std::uint64_t traps_at = corners_at + i * corner_bytes;
    const std::uint64_t vcpu_at = traps_at + kBasePageBytes + kStackBytes;
    vcpu.traps = reinterpret_cast<GuestTraps*>(own_.host + traps_at);
    vcpu.guest = reinterpret_cast<GuestVcpu*>(own_.host + vcpu_at);
    vcpu.accesses = reinterpret_cast<GuestAccess*>(own_.host + vcpu_at + vcpu_bytes);
    start_guest(kvm_.get(), vm_.get(), vcpu.fd.get(),
                {code_at_, vcpu_at, vcpu_at, traps_at, own_.host + traps_at, layout.kernel_mode});
    vcpus_.push_back(std::move(vcpu));
  }
}

void Vm::add_slots(const VmLayout& layout) {
  std::uint32_t number = 0;
  add_slot(number++, own_, false);
  if (layout.exit_on_missing) userfault_bits_ = UserfaultBits(slots_[0].bytes);
  const std::vector<RegionPart> whole{{0, slots_[0].bytes}};
  for (const RegionPart& part : layout.parts.empty() ? whole : layout.parts)
    add_slot(number++, {slots_[0].host + part.offset, part.bytes, slots_[0].at + part.offset}, layout.exit_on_missing);
  for (std::size_t i = 1; i < slots_.size(); ++i) add_slot(number++, slots_[i], false);
}

void Vm::add_slot(std::uint32_t number, const GuestSlot& slot, bool exits_on_missing) {
  const auto host = reinterpret_cast<std::uint64_t>(slot.host);
  if (!exits_on_missing) {
    kvm_userspace_memory_region region{number, 0, slot.at, slot.bytes, host};
    if (::ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &region) != 0)
      throw KernelError("KVM_SET_USER_MEMORY_REGION", errno, slot.at, slot.bytes);
    return;
  }
  kvm_userspace_memory_region2 region{};
  region.slot = number;
  region.flags = kExitOnMissingFlag;
  region.guest_phys_addr = slot.at;
  region.memory_size = slot.bytes;
  region.userspace_addr = host;
  region.pad2[0] = userfault_bits_.address();
  if (::ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION2, &region) != 0)
    throw KernelError("KVM_SET_USER_MEMORY_REGION2", errno, slot.at, slot.bytes);
}

int run_vcpu(const VmVcpu& vcpu) noexcept { return static_cast<int>(-system_call(SYS_ioctl, vcpu.fd.get(), KVM_RUN, 0)); }

}  // namespace uffd
