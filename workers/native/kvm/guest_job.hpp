// What a KVM vCPU's guest is given to work with: where it finds its records, its accesses and its contents.
#pragma once

#include <cstdint>
#include <new>

#include "kvm/vm.hpp"
#include "vcpu/engine.hpp"
#include "vcpu/vcpu.hpp"

namespace uffd {

/// The slots of a VM's layout, in this order.
enum class KvmSlot : std::size_t { region, shared, record, faults };

/// Accesses that a guest is asked for at a time: each time it is asked for more is an exit of its own.
inline constexpr std::uint64_t kKvmAccessesAtOnce = 256;

inline const GuestSlot& slot_of(const Vm& vm, KvmSlot which) { return vm.slot(static_cast<std::size_t>(which)); }

/// A vCPU that is meant to sleep names its record to the reader before it does.
inline bool opens_records(const Books& books) { return books.userfaultfd && !books.exits; }

/// In its corner of the guest's own memory, as its vCPU, its slots and the setup have it.
inline GuestVcpu& build_guest(const Vcpu& vcpu, const Vm& vm, const EngineSetup& setup, VmVcpu& own) {
  const Books& books = vcpu.books();
  const GuestSlot &shared = slot_of(vm, KvmSlot::shared), &record = slot_of(vm, KvmSlot::record),
                  &faults = slot_of(vm, KvmSlot::faults);
  FaultRecord* const records = faults.in_guest(books.records);
  VcpuState* const state = shared.in_guest(&books.state);
  GuestAccess* const accesses = vm.own().in_guest(own.accesses);
  const auto words = [](auto* at) { return reinterpret_cast<std::uint64_t*>(at); };
  return *new (own.guest) GuestVcpu({
      .header = shared.in_guest(&setup.guest.header()),
      .state = state,
      .records = records,
      .accesses = accesses,
      .pages = PageRecord(reinterpret_cast<std::atomic<std::uint8_t>*>(record.at)),
      .contents = books.contents,
      .page_bytes = books.page_bytes,
      .record_capacity = books.record_capacity,
      .sample_every = books.sample_every,
      .think = books.think,
      .userfaultfd = books.userfaultfd,
      .external = books.external,
      .opens_records = opens_records(books),
      .own = {{words(accesses), kKvmAccessesAtOnce * sizeof(GuestAccess)},
              {words(records), (books.record_capacity + 1) * sizeof(FaultRecord)},
              {words(state), sizeof(VcpuState)},
              {reinterpret_cast<std::uint64_t*>(record.at), record.bytes},
              {words(vm.own().in_guest(own.guest)), sizeof(GuestVcpu)}},
  });
}

}  // namespace uffd
