// One KVM vCPU: its guest is asked for some accesses at a time, makes them, and notes what it found.
// What comes back from KVM_RUN is a trip, answered by the same Vcpu and strategy as a thread's; or a call of the guest: a wait,
// or all accesses done. Either way the host accounts for those that were done since, from the guest's notes.
//
// A page that would have slept arrives, on a mapping with UFFD_FEATURE_SIGBUS, as EFAULT: with KVM_EXIT_MEMORY_FAULT where
// the kernel fills it in, bare where it does not (on every KVM tried: docs/kvm.md); then the guest's own note says which page.
// Where KVM itself makes the access for the guest (emulation) it arrives as KVM_EXIT_MMIO inside a slot, and has to be
// completed there; asleep in that access a vCPU takes no signal but SIGKILL, and ends when registration ends.
#include "kvm/kvm_seat.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <utility>

#include "kernel/error.hpp"
#include "vcpu/signals.hpp"
#include "vcpu/touch.hpp"
#include "vcpu/vcpu.hpp"

namespace uffd {

namespace {

constexpr int kWarmUps = 8;
// relaxed: a guest runs on this very thread, between two KVM_RUNs. The stage is for the watchdog alone, the immediate exit is
// read by KVM on this thread, behind the signal that came with it.

class KvmSeat final : public Engine::Seat {
 public:
  KvmSeat(Vcpu& vcpu, Vm& vm, const EngineSetup& setup);
  void begin_round() override;
  void walk() override;

 private:
  bool pass();
  void write_accesses(std::uint64_t count);
  /// Runs the guest until it is ready for the next command. False: the run is being stopped.
  bool run();
  bool call(GuestCall why);
  bool trip(Exit exit, std::uint64_t address);
  void account(bool all);
  void raise(const GuestAccess& access);
  GuestAccess& under_way();
  bool give_up(Exit exit, GuestAccess& access);
  bool abandon(const GuestAccess& access);
  /// Where the region exits on missing pages: each page exits once at most, whichever thread resolved it.
  void no_exit_if_resolved(std::uint64_t page) noexcept {
    if (vm_.userfault_bits().there() && vcpu_.vmm().resolver.record().state(page) == PageState::resolved)
      vm_.userfault_bits().clear(page * page_bytes_, page_bytes_);
  }
  void complete_mmio();
  [[noreturn]] void failed(const std::string& how) const;

  Vcpu& vcpu_;
  Vm& vm_;
  VmVcpu& own_;
  GuestVcpu& guest_;
  const GuestSlot& region_;
  const Clock& clock_ = Clock::get();
  const std::uint64_t page_bytes_;
  const bool first_of_vm_;
  const bool opens_records_;
  bool stamps_ = false;            ///< the guest's counter is this host's
  Ticks entry_ = 0;                ///< from the host's KVM_RUN to the guest's next instruction
  std::uint16_t cpu_ = 0;          ///< as of the last entry into the guest
  std::uint64_t first_ = 0;        ///< accesses done before those that the guest has been asked for
  std::uint64_t accounted_ = 0;    ///< of these
  bool raised_ = false;            ///< the next of them is under way, and counted as such
  std::uint64_t wrong_words_ = 0;  ///< found by the guest in earlier rounds
  Touching touching_;              // for the accesses completed here, and for SIGBUS BUS_MCEERR_AR
};

KvmSeat::KvmSeat(Vcpu& vcpu, Vm& vm, const EngineSetup& setup)
    : vcpu_(vcpu),
      vm_(vm),
      own_(vm.vcpu(vcpu.index() - setup.first_vcpu)),
      guest_(build_guest(vcpu, vm, setup, own_)),
      region_(slot_of(vm, KvmSlot::region)),
      page_bytes_(vcpu.vmm().page_bytes),
      first_of_vm_(vcpu.index() == setup.first_vcpu),
      opens_records_(opens_records(vcpu.books())),
      touching_(vcpu) {
  run();  // to its first call
  Ticks before = 0;
  for (int round = 0; round < kWarmUps; ++round) {
    guest_.warm();
    before = clock_.now();
    run();
    // The first warm-up maps what the guest needs for itself; a later one may be interrupted.
    if (const Ticks took = guest_.entered() - before; round == 1 || (round > 1 && took < entry_)) entry_ = took;
  }
  stamps_ = clock_.invariant() && before <= guest_.counter() && guest_.counter() <= clock_.now();
  if (!stamps_ && (vcpu_.arrivals().open_loop() || vcpu_.books().think != 0))
    throw ConfigError(
        "engine=kvm: the guest's counter is not this host's, so it cannot keep access.rate_per_s or "
        "access.think_us: leave them 0, or use engine=thread");
}

// The others of the VM wait at the barrier for the first one.
void KvmSeat::begin_round() {
  if (!first_of_vm_ || !vm_.userfault_bits().there()) return;
  vm_.userfault_bits().begin_round(vcpu_.vmm().resolver.record(), vcpu_.vmm().guest.pages(), page_bytes_);
}

void KvmSeat::walk() {
  for (std::uint32_t passes = 0; passes < vcpu_.access_config().passes; ++passes) {
    if (!pass() || vcpu_.stopping()) break;
    vcpu_.end_of_pass();
  }
  WrongWord found = guest_.wrong_word();  // of all rounds together
  found.count -= std::exchange(wrong_words_, found.count);
  vcpu_.found_wrong(found);
}

bool KvmSeat::pass() {
  vcpu_.order().rewind();
  for (std::uint64_t left = vcpu_.order().per_pass(); left != 0;) {
    const std::uint64_t count = std::min(left, kKvmAccessesAtOnce);
    const Ticks began = clock_.now();
    write_accesses(count);
    guest_.ask(count, vcpu_.faults(), vcpu_.recorded());
    const Ticks asked = clock_.now();
    if (!run()) return false;
    const Ticks made = clock_.now();
    account(true);
    vcpu_.add_bookkeeping(asked - began + (clock_.now() - made));
    if (vcpu_.stopping()) return false;
    left -= count;
  }
  return true;
}

void KvmSeat::write_accesses(std::uint64_t count) {
  const Books& books = vcpu_.books();
  AccessOrder& order = vcpu_.order();
  Arrivals& arrivals = vcpu_.arrivals();
  const Milestones& milestones = vcpu_.milestones();
  first_ = vcpu_.state().accesses.load(kRelaxed);
  accounted_ = 0;
  std::uint64_t milestone = milestones.next();
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t page = order.next_page();
    const std::uint64_t base = books.contents.base(page), index = books.contents.touched_word(base);
    unsigned flags = order.next_is_read() ? 0 : GuestAccess::kWrites;
    if (books.think != 0 && first_ + i != 0) flags |= GuestAccess::kThinks;
    if (arrivals.open_loop()) flags |= GuestAccess::kDue;
    if (!books.userfaultfd || PageRecord::swapped_out(books.pages.byte(page))) flags |= GuestAccess::kByKernel;
    if (books.verify == Verify::page) flags |= GuestAccess::kWhole;
    if (const std::uint64_t done = first_ + i + 1; done >= milestone) {
      flags |= GuestAccess::kMarks;
      milestone = milestones.after(done);
    }
    own_.accesses[i] = {.word = reinterpret_cast<std::uint64_t*>(region_.at + vcpu_.vmm().guest.layout().offset(page)) + index,
                        .expected = books.contents.touched_value(page, base),
                        .page = static_cast<std::uint32_t>(page),
                        .flags = static_cast<std::uint8_t>(flags),
                        .due = arrivals.open_loop() ? arrivals.due() : 0};
    if (arrivals.open_loop()) arrivals.advance();
  }
}

void KvmSeat::raise(const GuestAccess& access) {
  if (!std::exchange(raised_, true))
    vcpu_.raise({access.page, access.known, (access.flags & GuestAccess::kWrites) != 0, access.due, stamps_ ? access.raised : 0,
                 opens_records_});
}

// The access that the guest is making, in the books.
GuestAccess& KvmSeat::under_way() {
  account(false);
  GuestAccess& access = own_.accesses[accounted_];
  raise(access);
  return access;
}

// `all`: the guest has stopped making accesses. It does so after the first that finds the run being stopped.
[[gnu::hot]] void KvmSeat::account(bool all) {
  const std::uint64_t done = vcpu_.state().accesses.load(kRelaxed) - first_;
  while (accounted_ < done) {
    const GuestAccess& access = own_.accesses[accounted_++];
    raise(access);
    raised_ = false;
    // Where the guest's next access may have used the same record since, the guest's own look at it counts.
    const bool noted = opens_records_ && (vcpu_.in_scratch_slot() || (access.flags & GuestAccess::kByKernel));
    vcpu_.finish({.value = access.value,
                  .resumed = stamps_ ? access.resumed : 0,
                  .cpu = cpu_,
                  .first = access.first,
                  .waited = noted ? access.waited : vcpu_.delivered(),
                  .stopping = all && accounted_ == done && vcpu_.stopping()});
    if ((access.flags & GuestAccess::kMarks) && stamps_) vcpu_.passed_milestone(access.resumed, access.by_readers);
  }
}

[[gnu::hot]] bool KvmSeat::run() {
  kvm_run& state = *own_.run;
  while (true) {
    clock_.now_and_cpu(cpu_);
    // Under an external handler its guest opens no records, so each touch may be one that waits.
    vcpu_.state().stage.store(vcpu_.books().external ? Stage::raised : Stage::touching, kRelaxed);
    const int error = run_vcpu(own_);
    if (error == 0 && state.exit_reason == KVM_EXIT_MMIO) {
      const std::uint64_t at = state.mmio.phys_addr;
      if (at == kGuestDoorbell) {
        const auto why = static_cast<GuestCall>(state.mmio.data[0]);
        if (why == GuestCall::ready) return true;
        if (!call(why)) return false;
      } else if (region_.holds(at)) {
        if (!trip(Exit::mmio, at)) return false;
      } else {
        char text[96];
        std::snprintf(text, sizeof text, "touched guest-physical address 0x%llx, which is in no memory slot",
                      static_cast<unsigned long long>(at));
        failed(text);
      }
    } else if (error == EFAULT) {
      Exit exit = Exit::efault;
      std::uint64_t at = reinterpret_cast<std::uint64_t>(under_way().word);
      if (state.exit_reason == KVM_EXIT_MEMORY_FAULT) {
        MemoryFault fault;
        std::memcpy(&fault, &state.mmio, sizeof fault);
        exit = Exit::memory_fault;
        at = fault.gpa;
        if (!region_.holds(at)) failed("faulted outside the guest region");
      }
      if (!trip(exit, at)) return false;
    } else if (error == EINTR || error == EAGAIN) {
      std::atomic_ref(state.immediate_exit).store(0, kRelaxed);
      if (const void* poisoned = Touching::take_memory_error(); poisoned != nullptr) {
        const auto offset = static_cast<const std::byte*>(poisoned) - region_.host;
        if (!trip(Exit::mceerr, region_.at + static_cast<std::uint64_t>(offset))) return false;
      } else if (vcpu_.stopping() && guest_before_touch(own_.fd.get(), vm_.code_at())) {
        return abandon(under_way());
      }
    } else if (error != 0) {
      throw KernelError("KVM_RUN", error);
    } else {
      failed("left with KVM exit reason " + std::to_string(state.exit_reason) +
             (state.exit_reason == KVM_EXIT_INTERNAL_ERROR ? ", internal error " + std::to_string(state.internal.suberror) : ""));
    }
  }
}

bool KvmSeat::call(GuestCall why) {
  if (why == GuestCall::wait) {
    // The exit before the wait and the entry after it are part of the wait, the rest of which the guest spins.
    if (const Ticks came = clock_.now(); came > guest_.waits_since()) vcpu_.count_waiting(came - guest_.waits_since());
    vcpu_.wait_until(guest_.until() - 2 * entry_);
    if (const Ticks left = clock_.now(); left < guest_.until()) vcpu_.count_waiting(guest_.until() - left);
    return true;
  }
  char text[192];
  std::snprintf(text, sizeof text, "took exception %llu at 0x%llx, address 0x%llx, error code 0x%llx",
                static_cast<unsigned long long>(own_.traps->vector), static_cast<unsigned long long>(own_.traps->at),
                static_cast<unsigned long long>(own_.traps->address), static_cast<unsigned long long>(own_.traps->error));
  failed(text);
}

[[gnu::hot]] bool KvmSeat::trip(Exit exit, std::uint64_t address) {
  GuestAccess& access = under_way();
  if (const std::uint64_t page = vcpu_.vmm().guest.layout().page_at(address - region_.at); page != access.page)
    failed("faulted on page " + std::to_string(page) + " while its note has page " + std::to_string(access.page));
  const bool had_record = vcpu_.has_record();
  access.flags |= GuestAccess::kExited;
  const Verdict verdict = vcpu_.on_exit(exit);
  if (opens_records_ && !had_record) guest_.used_slot();
  if (verdict == Verdict::abandon) return give_up(exit, access);
  no_exit_if_resolved(access.page);
  if (exit != Exit::mmio) return true;
  complete_mmio();
  return !vcpu_.abandoned() || give_up(exit, access);
}

// For a memory error, which is injected into the guest, or because the run is being stopped.
bool KvmSeat::give_up(Exit exit, GuestAccess& access) {
  vcpu_.abandon();
  if (!vcpu_.met_memory_error()) return abandon(access);
  access.flags |= GuestAccess::kGivenUp;
  if (exit == Exit::mmio) std::memset(own_.run->mmio.data, 0, sizeof own_.run->mmio.data);
  if (!inject_memory_error(own_.fd.get(), region_.at + vcpu_.vmm().guest.layout().offset(access.page)))
    failed("has a memory error on page " + std::to_string(access.page) + ", and this platform can inject no machine check");
  return true;
}

bool KvmSeat::abandon(const GuestAccess& access) {
  const Books& books = vcpu_.books();
  vcpu_.finish_abandoned({.resumed = stamps_ ? clock_.now() : 0,
                          .cpu = cpu_,
                          .first = !books.external && first_touch(books.pages, access.page, access.known, books.userfaultfd)});
  return false;
}

// KVM made the access for the guest and found no page; now there is one. The access is done here, as the thread engine does
// its own, so that whatever happens to the page meanwhile is one more exit of the same access.
void KvmSeat::complete_mmio() {
  auto& mmio = own_.run->mmio;
  std::byte* at = region_.host + (mmio.phys_addr - region_.at);
  auto* word = reinterpret_cast<std::uint64_t*>(reinterpret_cast<std::uint64_t>(at) & ~7ull);
  const auto offset = reinterpret_cast<std::uint64_t>(at) & 7;
  const std::uint64_t value = mmio.is_write != 0 ? touch_write(word) : touch_read(word);
  if (vcpu_.abandoned()) return;
  const std::size_t length = std::min<std::size_t>(mmio.len, 8 - offset);
  if (mmio.is_write != 0)
    std::memcpy(at, mmio.data, length);
  else
    std::memcpy(mmio.data, reinterpret_cast<const std::byte*>(&value) + offset, length);
}

void KvmSeat::failed(const std::string& how) const {
  throw KernelError("the guest of vCPU " + std::to_string(vcpu_.index()) + " " + how + ": it cannot go on", EIO);
}

}  // namespace

std::unique_ptr<Engine::Seat> make_kvm_seat(Vcpu& vcpu, Vm& vm, const EngineSetup& setup) {
  return std::make_unique<KvmSeat>(vcpu, vm, setup);
}

}  // namespace uffd
