// The KVM engine: a vCPU is a KVM vCPU, whose guest walks the access order itself and keeps the books in memory shared with
// the host. What comes back from KVM_RUN is a trip, answered by the same Vcpu and strategy as a thread's; or a call of the
// guest, a wait or the end of a pass.
//
// A page that would have slept arrives, on a mapping with UFFD_FEATURE_SIGBUS, as EFAULT: with KVM_EXIT_MEMORY_FAULT where
// the kernel fills it in, bare where it does not (6.18's software PVM flavour); then the guest's own note says which page.
// Where KVM itself makes the access for the guest (emulation) it arrives as KVM_EXIT_MMIO inside a slot, and has to be
// completed there; asleep in that access a vCPU takes no signal but SIGKILL, and ends when registration ends.
#include <signal.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "../engine.hpp"
#include "../error.hpp"
#include "../thread_engine.hpp"
#include "../vcpu.hpp"
#include "probe.hpp"
#include "vm.hpp"

namespace uffd {

namespace {

enum SlotNumber : std::size_t { kRegion, kShared, kRecord, kFaults };

VmLayout layout_of(const EngineSetup& setup, std::uint64_t orders) {
  const auto slot = [](const Mapping& mapping) { return GuestSlot{mapping.data(), (mapping.bytes() + 4095) / 4096 * 4096, 0}; };
  VmLayout layout;
  layout.slots = {slot(setup.region), GuestSlot{setup.guest.shared_bytes().data(), setup.guest.shared_bytes().size(), 0},
                  slot(setup.record), slot(setup.faults)};
  layout.vcpus = setup.vcpus;
  layout.orders_per_vcpu = orders;
  layout.kernel_mode = setup.options.at("guest_mode") == 1;
  return layout;
}

class KvmEngine final : public Engine {
 public:
  explicit KvmEngine(const EngineSetup& setup) : setup_(setup), kernel_mode_(setup.options.at("guest_mode") == 1) {
    if (setup.vmm.exit == ExitKind::populate)
      throw ConfigError("engine=kvm: a guest's refused access comes back by itself, not as the error of MADV_POPULATE_WRITE: use "
                        "strategy.exit_via=signal, or engine=thread");
    if (setup.vmm.exit == ExitKind::probe) {
      const std::string lack = exit_on_missing_lack();
      if (!lack.empty()) throw ConfigError("engine=kvm: " + lack);
      exit_on_missing_ = true;
    }
    ThreadEngine::install_handlers();
  }

  /// The VM is made when the first vCPU knows how long its pass is; all of a VMM process have the same length to a page.
  void make(std::uint64_t orders) {
    VmLayout layout = layout_of(setup_, orders);
    layout.exit_on_missing = exit_on_missing_;
    vm_ = std::make_unique<Vm>(layout);
  }

  std::unique_ptr<Seat> enter(Vcpu& vcpu) override;
  void kick(std::uint32_t vcpu, pthread_t thread) noexcept override {
    if (vm_ != nullptr) std::atomic_ref(vm_->vcpu(vcpu).run->immediate_exit).store(1, std::memory_order_relaxed);
    ::pthread_kill(thread, ThreadEngine::kick_signal());
  }

  const EngineSetup& setup() const noexcept { return setup_; }
  Vm& vm() noexcept { return *vm_; }

 private:
  EngineSetup setup_;
  bool kernel_mode_;
  bool exit_on_missing_ = false;
  std::unique_ptr<Vm> vm_;
};

class KvmSeat final : public Engine::Seat {
 public:
  KvmSeat(Vcpu& vcpu, KvmEngine& engine);
  void walk() override;

 private:
  /// Runs the guest until it is ready for the next command. False: the run is being stopped.
  bool run();
  bool call(GuestCall why);
  bool trip(Exit exit, std::uint64_t page);
  /// Where the region exits on missing pages. Whoever has resolved it: each page exits once at most.
  void no_exit_if_resolved(std::uint64_t page) noexcept {
    if (vm_.userfault_bits().there() && vcpu_.vmm().resolver.record().state(page) == PageState::resolved)
      vm_.userfault_bits().clear(page * page_bytes_, page_bytes_);
  }
  bool end_access(Exit exit);
  void complete_mmio();
  [[noreturn]] void failed(const std::string& how) const;
  bool fill_order();

  Vcpu& vcpu_;
  Vm& vm_;
  VmVcpu& own_;
  GuestVcpu& guest_;
  const GuestSlot& region_;
  const Clock& clock_ = Clock::get();
  const std::uint64_t page_bytes_;
  ThreadEngine::Touching touching_;  // for the accesses completed here, and for SIGBUS BUS_MCEERR_AR
  bool waiting_ = false;
};

GuestVcpu& build(Vcpu& vcpu, KvmEngine& engine, VmVcpu& own) {
  Vm& vm = engine.vm();
  Books books = vcpu.books();
  const GuestSlot &region = vm.slot(kRegion), &shared = vm.slot(kShared), &record = vm.slot(kRecord), &faults = vm.slot(kFaults);
  FaultRecord* records = faults.in_guest(books.records);
  auto* state = shared.in_guest(&books.state);
  auto* pages = reinterpret_cast<std::atomic<std::uint8_t>*>(record.at);
  const GuestVcpu::Job job{
      .header = shared.in_guest(&engine.setup().guest.header()),
      .traps = vm.own().in_guest(own.traps),
      .order = vm.own().in_guest(own.order),
      .count = 0,
      .stamps = true,
      .own = {{reinterpret_cast<std::uint64_t*>(vm.own().in_guest(own.order)), vcpu.order().per_pass() * sizeof(std::uint32_t)},
              {reinterpret_cast<std::uint64_t*>(records), (books.record_capacity + 1) * sizeof(FaultRecord)},
              {reinterpret_cast<std::uint64_t*>(state), sizeof(VcpuState)},
              {reinterpret_cast<std::uint64_t*>(record.at), record.bytes},
              {reinterpret_cast<std::uint64_t*>(vm.own().in_guest(own.guest)), sizeof(GuestVcpu)}},
  };
  return *new (own.guest) GuestVcpu({.state = *state,
                                     .records = records,
                                     .pages = PageRecord(pages),
                                     .contents = books.contents,
                                     .region = reinterpret_cast<std::byte*>(region.at),
                                     .page_bytes = books.page_bytes,
                                     .sample_every = books.sample_every,
                                     .record_capacity = books.record_capacity,
                                     .interval = books.interval,
                                     .think = books.think,
                                     .verify = books.verify,
                                     .userfaultfd = books.userfaultfd,
                                     .exits = books.exits},
                                    job, vcpu.milestones());
}

KvmSeat::KvmSeat(Vcpu& vcpu, KvmEngine& engine)
    : vcpu_(vcpu),
      vm_(engine.vm()),
      own_(engine.vm().vcpu(vcpu.index() - engine.setup().first_vcpu)),
      guest_(build(vcpu, engine, own_)),
      region_(engine.vm().slot(kRegion)),
      page_bytes_(vcpu.vmm().page_bytes),
      touching_(vcpu) {
  fill_order();
  if (vm_.userfault_bits().there() && vcpu.index() == engine.setup().first_vcpu)  // the others wait at the barrier for this one
    for (std::uint64_t page = 0; page < vcpu.vmm().guest.pages(); ++page) no_exit_if_resolved(page);
  run();  // to its first call
  Ticks before = 0;
  for (int round = 0; round < 2; ++round) {
    guest_.ask(GuestCommand::warm_up);
    before = clock_.now();
    run();
  }
  guest_.job().stamps = clock_.invariant() && before <= guest_.counter() && guest_.counter() <= clock_.now();
  if (!guest_.job().stamps && (vcpu.books().interval != 0 || vcpu.books().think != 0))
    throw ConfigError("engine=kvm: the guest's counter is not this host's, so it cannot keep access.rate_per_s or "
                      "access.think_us: leave them 0, or use engine=thread");
}

bool KvmSeat::fill_order() {
  AccessOrder& order = vcpu_.order();
  order.rewind();
  for (std::uint64_t i = 0; i < order.per_pass(); ++i) {
    const auto page = static_cast<std::uint32_t>(order.next_page());
    own_.order[i] = order.next_is_read() ? page : page | GuestVcpu::kWrites;
  }
  guest_.job().count = order.per_pass();
  return true;
}

void KvmSeat::walk() {
  guest_.progress() = vcpu_.progress();
  guest_.milestones() = vcpu_.milestones();  // eager has set some before the first access
  for (std::uint32_t pass = 0; pass < vcpu_.access_config().passes; ++pass) {
    if (pass != 0) fill_order();
    guest_.ask(GuestCommand::walk);
    if (!run() || vcpu_.stopping()) break;
    vcpu_.end_of_pass();
  }
  vcpu_.take(guest_.progress());
  vcpu_.add(guest_.counters(), guest_.wrong_word(), guest_.milestones());
}

[[gnu::hot]] bool KvmSeat::run() {
  kvm_run& state = *own_.run;
  while (true) {
    clock_.now_and_cpu(guest_.cpu);
    const int error = run_vcpu(own_);
    if (error == 0 && state.exit_reason == KVM_EXIT_MMIO) {
      const std::uint64_t at = state.mmio.phys_addr;
      if (at == kGuestDoorbell) {
        const auto why = static_cast<GuestCall>(state.mmio.data[0]);
        if (why == GuestCall::ready) return true;
        if (!call(why)) return false;
      } else if (region_.holds(at)) {
        if (!trip(Exit::mmio, (at - region_.at) / page_bytes_)) return false;
      } else {
        char text[96];
        std::snprintf(text, sizeof text, "touched guest-physical address 0x%llx, which is in no memory slot",
                      static_cast<unsigned long long>(at));
        failed(text);
      }
    } else if (error == EFAULT) {
      Exit exit = Exit::efault;
      std::uint64_t page = guest_.progress().page_;
      if (state.exit_reason == KVM_EXIT_MEMORY_FAULT) {
        MemoryFault fault;
        std::memcpy(&fault, &state.mmio, sizeof fault);
        exit = Exit::memory_fault;
        page = (fault.gpa - region_.at) / page_bytes_;
        if (!region_.holds(fault.gpa)) failed("faulted outside the guest region");
      }
      if (!trip(exit, page)) return false;
    } else if (error == EINTR || error == EAGAIN) {
      std::atomic_ref(state.immediate_exit).store(0, std::memory_order_relaxed);
      if (const void* poisoned = ThreadEngine::Touching::take_memory_error(); poisoned != nullptr) {
        const auto offset = static_cast<const std::byte*>(poisoned) - region_.host;
        if (!trip(Exit::mceerr, static_cast<std::uint64_t>(offset) / page_bytes_)) return false;
      } else if (vcpu_.stopping() && guest_at_touch(own_.fd.get(), vm_.code_at())) {
        return end_access(Exit::none);
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
    vcpu_.wait_until(guest_.until());
    return true;
  }
  char text[160];
  std::snprintf(text, sizeof text, "took exception %llu at 0x%llx, address 0x%llx",
                static_cast<unsigned long long>(own_.traps->vector), static_cast<unsigned long long>(own_.traps->at),
                static_cast<unsigned long long>(own_.traps->address));
  failed(text);
}

[[gnu::hot]] bool KvmSeat::trip(Exit exit, std::uint64_t page) {
  Progress& progress = guest_.progress();
  if (page != progress.page_)
    failed("faulted on page " + std::to_string(page) + " while it says that it touches page " + std::to_string(progress.page_));
  vcpu_.take(progress);
  const Verdict verdict = vcpu_.on_exit(exit);
  if (verdict != Verdict::abandon) {
    no_exit_if_resolved(page);
    if (exit == Exit::mmio) complete_mmio();
  } else {
    vcpu_.abandon();
  }
  return end_access(exit);
}

// The access is done, or given up: for a memory error, which the guest is told, or because the run is being stopped.
bool KvmSeat::end_access(Exit exit) {
  Progress& progress = guest_.progress();
  if (exit == Exit::none) vcpu_.take(progress);
  const bool abandoned = exit == Exit::none || vcpu_.progress().abandoned_;
  if (abandoned && !vcpu_.progress().memory_error_) {
    vcpu_.close_abandoned();
    progress = vcpu_.progress();
    return false;
  }
  progress = vcpu_.progress();
  if (!abandoned) return true;
  progress.abandoned_ = false;
  progress.memory_error_ = false;  // it is the machine check that tells the guest
  if (exit == Exit::mmio) std::memset(own_.run->mmio.data, 0, sizeof own_.run->mmio.data);
  if (!inject_memory_error(own_.fd.get(), region_.at + progress.page_ * page_bytes_))
    failed("has a memory error on page " + std::to_string(progress.page_) + ", and this platform can inject no machine check");
  return true;
}

// KVM made the access for the guest and found no page; now there is one. The access is done here, as the thread engine does
// its own, so that whatever happens to the page meanwhile is one more exit of the same access.
void KvmSeat::complete_mmio() {
  auto& mmio = own_.run->mmio;
  std::byte* at = region_.host + (mmio.phys_addr - region_.at);
  auto* word = reinterpret_cast<std::uint64_t*>(reinterpret_cast<std::uint64_t>(at) & ~7ull);
  const auto offset = reinterpret_cast<std::uint64_t>(at) & 7;
  const std::uint64_t value = mmio.is_write != 0 ? touch_write(word) : touch_read(word);
  if (vcpu_.progress().abandoned_) return;
  const std::size_t length = std::min<std::size_t>(mmio.len, 8 - offset);
  if (mmio.is_write != 0)
    std::memcpy(at, mmio.data, length);
  else
    std::memcpy(mmio.data, reinterpret_cast<const std::byte*>(&value) + offset, length);
}

void KvmSeat::failed(const std::string& how) const {
  throw KernelError("the guest of vCPU " + std::to_string(vcpu_.index()) + " " + how + ": it cannot go on", EIO);
}

std::unique_ptr<Engine::Seat> KvmEngine::enter(Vcpu& vcpu) { return std::make_unique<KvmSeat>(vcpu, *this); }

const RegisterEngine registered({
    .name = "kvm",
    .summary = "a vCPU is a KVM vCPU, whose guest touches; its exits come from KVM_RUN",
    .emulates_exits = false,
    .options = {{"guest_mode", 0, 0, 1,
                 "what the guest runs in: user mode, or kernel mode (which a KVM without hardware support emulates, so that every "
                 "access is KVM's own)",
                 {"user", "kernel"}}},
    .make = [](const EngineSetup& setup) -> std::unique_ptr<Engine> {
      auto engine = std::make_unique<KvmEngine>(setup);
      engine->make(setup.most_accesses);
      return engine;
    },
});

}  // namespace

}  // namespace uffd
