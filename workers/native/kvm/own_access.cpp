#include "kvm/own_access.hpp"

#if defined(__x86_64__)

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include "kernel/error.hpp"
#include "kernel/mapping.hpp"
#include "kernel/userfaultfd.hpp"
#include "kvm/vm.hpp"

// rdi: a word to read, rsi: the doorbell, which gets that word's lowest byte.
asm(R"(
  .pushsection uffd_guest, "ax", @progbits
  .p2align 4
uffd_guest_own_access:
  movq (%rdi), %rax
  movq %rax, (%rsi)
  ud2
  .popsection
)");
extern "C" [[gnu::visibility("hidden")]] void uffd_guest_own_access();

namespace uffd {

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kRight = 0x77;                                      // what the guest is to read
constexpr std::uint64_t kSystemTime = 0x4b564d01, kStealTime = 0x4b564d03;  // MSRs: where KVM is to write
constexpr std::uint64_t kOn = 1;
constexpr std::uint64_t kThroughTable = 1 << 20 << 9;  // offset in the region's GiB that the table in question maps
constexpr std::uint64_t kEntry = 7, kAddress = 0x000f'ffff'ffff'f000;  // present, writable, user
constexpr int kMostEntries = 8;

// One vCPU and a region of one page that has contents and is not mapped.
class Scene {
 public:
  Scene(bool refuses, bool kernel_mode)
      : memory_(make_memfd("uffd-loadgen-own-access", kPage, false)),
        alias_(Mapping::shared(memory_.get(), kPage)),
        page_(Mapping::shared(memory_.get(), kPage)),
        uffd_(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM | (refuses ? std::uint64_t{UFFD_FEATURE_SIGBUS} : 0)),
        vm_(layout(kernel_mode)),
        vcpu_(vm_.vcpu(0)) {
    std::memset(alias_.data(), 0, kPage);
    uffd_.register_range(page_.address(), kPage, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR);
    reader_ = std::thread([this] { read(); });
  }
  ~Scene() {
    stopping_ = true;
    reader_.join();
  }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;

  std::uint64_t* contents() noexcept { return reinterpret_cast<std::uint64_t*>(alias_.data()); }
  std::uint64_t at() const noexcept { return vm_.slot(0).at; }
  std::uint64_t events() const noexcept { return events_; }

  /// Puts the region's page into the guest's tables, as the one that maps `address` by pages of 4 KiB.
  void make_it_a_table(std::uint64_t address) {
    auto* memory = vm_.own().host;
    kvm_sregs system{};
    if (::ioctl(vcpu_.fd.get(), KVM_GET_SREGS, &system) != 0) throw KernelError("KVM_GET_SREGS", errno);
    std::uint64_t table = system.cr3;
    for (const unsigned shift : {39u, 30u}) table = words(memory, table)[address >> shift & 511] & kAddress;
    words(memory, table)[address >> 21 & 511] = at() | kEntry;
  }
  /// A word of the guest's own, always mapped memory, and its address there.
  std::uint64_t own_word(std::uint64_t value) {
    vcpu_.accesses[0].value = value;
    return reinterpret_cast<std::uint64_t>(vm_.own().in_guest(&vcpu_.accesses[0].value));
  }
  /// False: this KVM has no such MSR.
  bool set_msr(std::uint64_t number, std::uint64_t value) {
    KvmList<kvm_msr_entry, 1> msrs;
    msrs.entries[0] = {static_cast<__u32>(number), 0, value};
    return ::ioctl(vcpu_.fd.get(), kSetMsrs, &msrs) == 1;
  }
  /// Has the guest read the word at `address`: the first thing that comes back of it.
  std::string read_word(std::uint64_t address) {
    kvm_regs registers{};
    if (::ioctl(vcpu_.fd.get(), KVM_GET_REGS, &registers) != 0) throw KernelError("KVM_GET_REGS", errno);
    registers.rip =
        vm_.code_at() + static_cast<std::uint64_t>(reinterpret_cast<const std::byte*>(uffd_guest_own_access) - first_guest_byte);
    registers.rdi = address;
    registers.rsi = kGuestDoorbell;
    if (::ioctl(vcpu_.fd.get(), KVM_SET_REGS, &registers) != 0) throw KernelError("KVM_SET_REGS", errno);
    return run();
  }

 private:
  VmLayout layout(bool kernel_mode) const {
    VmLayout layout;
    layout.slots = {GuestSlot{page_.data(), kPage, 0}};
    layout.accesses_per_vcpu = 1;
    layout.kernel_mode = kernel_mode;
    return layout;
  }
  static std::uint64_t* words(std::byte* memory, std::uint64_t at) { return reinterpret_cast<std::uint64_t*>(memory + at); }

  std::string run() {
    const kvm_run& state = *vcpu_.run;
    int error = EINTR;
    for (int entries = 0; (error == EINTR || error == EAGAIN) && entries < kMostEntries; ++entries) error = run_vcpu(vcpu_);
    if (error == EFAULT) return state.exit_reason == KVM_EXIT_MEMORY_FAULT ? "memory_fault" : "efault";
    if (error != 0) return "KVM_RUN: " + std::string(std::strerror(error));
    if (state.exit_reason != KVM_EXIT_MMIO) return "KVM exit reason " + std::to_string(state.exit_reason);
    if (state.mmio.phys_addr != kGuestDoorbell) return "mmio";
    if (state.mmio.data[0] == static_cast<std::uint8_t>(GuestCall::trap))
      return "exception " + std::to_string(vcpu_.traps->vector);
    return state.mmio.data[0] == kRight ? "done" : "a wrong word";
  }

  // As a page server would: what sleeps is resolved.
  void read() {
    pollfd polled{uffd_.fd(), POLLIN, 0};
    while (!stopping_) {
      uffd_msg message;
      if (::poll(&polled, 1, 10) <= 0 || ::read(uffd_.fd(), &message, sizeof message) != sizeof message) continue;
      if (message.event != UFFD_EVENT_PAGEFAULT) continue;
      ++events_;
      uffd_.resume(page_.address(), kPage, true);
    }
  }

  Descriptor memory_;
  Mapping alias_, page_;
  Userfaultfd uffd_;
  Vm vm_;
  VmVcpu& vcpu_;
  std::atomic<bool> stopping_ = false;
  std::atomic<std::uint64_t> events_ = 0;
  std::thread reader_;
};

OwnAccess of_page_table(bool refuses) {
  Scene scene(refuses, false);
  const std::uint64_t word = scene.own_word(kRight), through = scene.at() + kThroughTable;
  for (std::uint64_t i = 0; i < 512; ++i) scene.contents()[i] = (word & kAddress) | kEntry;
  scene.make_it_a_table(through);
  std::string seen = scene.read_word(through + word % kPage);
  return {"page_table", refuses, scene.events(), std::move(seen)};
}

// Of a guest in kernel mode, whose instructions a KVM without hardware to run them executes itself.
OwnAccess of_operand(bool refuses) {
  Scene scene(refuses, true);
  scene.contents()[0] = kRight;
  std::string seen = scene.read_word(scene.at());
  return {"operand", refuses, scene.events(), std::move(seen)};
}

// KVM writes the time, and the time the guest could not run, into a page of the guest's.
OwnAccess of_msr(const char* name, std::uint64_t number, bool refuses) {
  Scene scene(refuses, false);
  if (!scene.set_msr(number, scene.at() | kOn)) return {name, refuses, scene.events(), "no such MSR"};
  std::string seen = scene.read_word(scene.own_word(kRight));
  bool written = false;
  for (std::uint64_t i = 0; i < 8; ++i) written = written || scene.contents()[i] != 0;
  return {name, refuses, scene.events(), written || seen != "done" ? seen : "lost"};
}

}  // namespace

std::vector<OwnAccess> try_own_accesses() {
  std::vector<OwnAccess> tried;
  for (const bool refuses : {false, true}) {
    tried.push_back(of_page_table(refuses));
    tried.push_back(of_operand(refuses));
    tried.push_back(of_msr("steal_time", kStealTime, refuses));
    tried.push_back(of_msr("clock", kSystemTime, refuses));
  }
  return tried;
}

}  // namespace uffd

#else

namespace uffd {

std::vector<OwnAccess> try_own_accesses() { return {}; }

}  // namespace uffd

#endif
