#include "kvm/own_access.hpp"

#include <fcntl.h>
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
#include "kvm/own_access_guest.hpp"
#include "kvm/vm.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kRight = 0x77;                 // what the guest is to read
constexpr std::uint64_t kThroughTable = 1 << 20 << 9;  // offset in the region's GiB that the table in question maps
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

  /// Puts the region's page into the guest's tables, as the one that maps `address` by pages of 4 KiB, each of them that of
  /// `word`.
  void make_it_a_table(std::uint64_t address, std::uint64_t word) {
    for (std::uint64_t i = 0; i < 512; ++i) contents()[i] = own_access_page(word);
    own_access_table(vcpu_.fd.get(), vm_.own().host, address, at());
  }
  /// A word of the guest's own, always mapped memory, and its address there.
  std::uint64_t own_word(std::uint64_t value) {
    vcpu_.accesses[0].value = value;
    return reinterpret_cast<std::uint64_t>(vm_.own().in_guest(&vcpu_.accesses[0].value));
  }
  /// Has KVM tell the guest something in the region's page. False: this KVM cannot.
  bool tell_there(const OwnWrite& write) { return write.ask(vcpu_.fd.get(), at()); }
  /// KVM has reached the page, for a page that it cannot have stays unmapped.
  bool mapped() const {
    std::uint64_t entry = 0;
    const Descriptor pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    const auto from = static_cast<off_t>(page_.address() / kPage * sizeof entry);
    return ::pread(pagemap.get(), &entry, sizeof entry, from) == sizeof entry && entry >> 63 != 0;
  }
  /// Has the guest read the word at `address`: the first thing that comes back of it.
  std::string read_word(std::uint64_t address) {
    own_access_begin(vcpu_.fd.get(), vm_.code_at(), address);
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
  scene.make_it_a_table(through, word);
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

OwnAccess of_write(const OwnWrite& write, bool refuses) {
  Scene scene(refuses, false);
  if (!scene.tell_there(write)) return {write.name, refuses, scene.events(), kNotAvailable};
  std::string seen = scene.read_word(scene.own_word(kRight));
  return {write.name, refuses, scene.events(), scene.mapped() || seen != "done" ? seen : "lost"};
}

}  // namespace

std::vector<OwnAccess> try_own_accesses() {
  std::vector<OwnAccess> tried;
  for (const bool refuses : {false, true}) {
    tried.push_back(of_page_table(refuses));
    if (kKvmMayEmulate) tried.push_back(of_operand(refuses));
    for (const OwnWrite& write : own_writes()) tried.push_back(of_write(write, refuses));
  }
  return tried;
}

}  // namespace uffd
