// The KVM engine: a vCPU is a KVM vCPU, whose guest is asked for some accesses at a time, makes them, and notes what it found.
// A VMM process has one VM; kvm_seat.hpp runs its vCPUs.
#include <pthread.h>
#include <signal.h>

#include <atomic>

#include "kernel/error.hpp"
#include "kvm/kvm_seat.hpp"
#include "kvm/probe.hpp"
#include "kvm/vm.hpp"
#include "vcpu/engine.hpp"
#include "vcpu/signals.hpp"
#include "vcpu/vcpu.hpp"

namespace uffd {

namespace {

VmLayout layout_of(const EngineSetup& setup) {
  const auto slot = [](const Mapping& mapping) { return GuestSlot{mapping.data(), (mapping.bytes() + 4095) / 4096 * 4096, 0}; };
  VmLayout layout;
  layout.slots = {slot(setup.region), GuestSlot{setup.guest.shared_bytes().data(), setup.guest.shared_bytes().size(), 0},
                  slot(setup.record), slot(setup.faults)};
  const PageLayout& pages = setup.guest.layout();
  for (std::uint64_t i = 0; i < pages.regions(); ++i) {
    const std::uint64_t first = pages.first_page(i);
    layout.parts.push_back({pages.offset(first), (pages.end_page(i) - first) * setup.guest.config().page_bytes});
  }
  layout.vcpus = setup.vcpus;
  layout.accesses_per_vcpu = kKvmAccessesAtOnce;
  layout.kernel_mode = setup.options.at("guest_mode") == 1;
  return layout;
}

class KvmEngine final : public Engine {
 public:
  explicit KvmEngine(const EngineSetup& setup) : setup_(setup) {
    VmLayout layout = layout_of(setup);
    if (setup.vmm.exit == ExitKind::populate)
      throw ConfigError(
          "engine=kvm: a guest's refused access comes back by itself, not as the error of MADV_POPULATE_WRITE: use "
          "strategy.exit_via=signal, or engine=thread");
    if (setup.vmm.exit == ExitKind::probe) {
      const std::string lack = exit_on_missing_lack();
      if (!lack.empty()) throw ConfigError("engine=kvm: " + lack);
      layout.exit_on_missing = true;
    }
    install_handlers();
    vm_ = std::make_unique<Vm>(layout);
  }

  std::unique_ptr<Seat> enter(Vcpu& vcpu) override { return make_kvm_seat(vcpu, *vm_, setup_); }
  void kick(std::uint32_t vcpu, pthread_t thread) noexcept override {
    // relaxed: the signal behind it orders it
    std::atomic_ref(vm_->vcpu(vcpu).run->immediate_exit).store(1, std::memory_order_relaxed);
    ::pthread_kill(thread, kick_signal());
  }

 private:
  EngineSetup setup_;
  std::unique_ptr<Vm> vm_;
};

const RegisterEngine registered({
    .name = "kvm",
    .summary = "a vCPU is a KVM vCPU, whose guest touches; its exits come from KVM_RUN",
    .emulates_exits = false,
    .options =
        {{"guest_mode",
          0,
          0,
          1,
          "what the guest runs in: user mode, or kernel mode (which a KVM without hardware support emulates, so that every "
          "access is KVM's own)",
          {"user", "kernel"}}},
    .make = [](const EngineSetup& setup) -> std::unique_ptr<Engine> { return std::make_unique<KvmEngine>(setup); },
});

}  // namespace

}  // namespace uffd
