// A bare KVM_RUN loop: a guest in user mode reads a word of each page and compares it; what exits is CONTINUEd without a wake.
// `--idle-exits 1`: after each page it writes to a doorbell without a device behind it, one exit more.
#include <linux/kvm.h>

#include <cstring>

#include "bare.hpp"

// r8: {address of a word, what it should be}, r9: how many, r10: {the address under way, wrong words}, r11: wrong words,
// r12: whether to ring after each.
asm(R"(
  .section .rodata
bare_guest:
   movl $0xd0000000, %ecx
1: movq (%r8), %rbx
   movq %rbx, (%r10)
   movq (%rbx), %rax
   cmpq 8(%r8), %rax
   je 2f
   incq %r11
2: testq %r12, %r12
   jz 3f
   movq %r12, (%rcx)
3: addq $16, %r8
   decq %r9
   jnz 1b
   movq %r11, 8(%r10)
   movq %r9, (%rcx)
4: jmp 4b
bare_guest_end:
   .text
)");
extern "C" const char bare_guest[], bare_guest_end[];

struct KvmNoUffdWait {
  static constexpr std::uint64_t kRegionAt = 1ull << 32, kGib = 1 << 30, kTables = 0x1000, kCode = 0x400000;
  static constexpr std::uint64_t kCorners = 0x500000, kDoorbell = 0xd0000000;
  struct Vcpu {
    int fd;
    kvm_run* run;
    std::uint64_t at;  // its notes, then its entries
  };

  bare::View view;
  char* own;
  std::vector<Vcpu> vcpus;
  std::uint64_t idle_exits;

  KvmNoUffdWait(int fd, std::uint64_t bytes, const bare::Args& args, std::uint64_t)
      : view(bare::registered(fd, bytes, UFFD_FEATURE_SIGBUS)), idle_exits(args.number("--idle-exits", 0)) {
    const std::uint64_t count = args.number("--vcpus", 1), pages = bytes / bare::kPage;
    const std::uint64_t corner = (bare::kPage + (pages / count + 1) * 16 + bare::kPage - 1) / bare::kPage * bare::kPage;
    const std::uint64_t own_bytes = kCorners + corner * count;
    own = bare::map(-1, own_bytes);
    std::memset(own, 0, own_bytes);
    std::memcpy(own + kCode, bare_guest, static_cast<std::size_t>(bare_guest_end - bare_guest));
    const auto table = [this](std::uint64_t at) { return reinterpret_cast<std::uint64_t*>(own + at); };
    const std::uint64_t gib = 4 + (bytes + kGib - 1) / kGib;
    table(kTables)[0] = (kTables + 0x1000) | 7;
    for (std::uint64_t i = 0; i < gib; ++i) table(kTables + 0x1000)[i] = (kTables + 0x2000 + i * 0x1000) | 7;
    for (std::uint64_t i = 0; i < gib * 512; ++i) table(kTables + 0x2000)[i] = i << 21 | 0x87;

    const int kvm = bare::must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    const int vm = bare::must(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    const auto slot = [vm](std::uint32_t number, std::uint64_t at, std::uint64_t size, char* host) {
      kvm_userspace_memory_region region{number, 0, at, size, reinterpret_cast<std::uint64_t>(host)};
      bare::must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    };
    slot(0, 0, own_bytes, own);
    slot(1, kRegionAt, bytes, view.memory);
    const int run_bytes = bare::must(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    struct {  // kvm_cpuid2 is as long as this in C only
      std::uint32_t count = 256, pad = 0;
      kvm_cpuid_entry2 entries[256] = {};
    } cpuid;
    bare::must(ioctl(kvm, _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, 8), &cpuid), "KVM_GET_SUPPORTED_CPUID");
    for (std::uint64_t i = 0; i < count; ++i) {
      const int vcpu = bare::must(ioctl(vm, KVM_CREATE_VCPU, i), "KVM_CREATE_VCPU");
      void* run = mmap(nullptr, static_cast<std::size_t>(run_bytes), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
      if (run == MAP_FAILED) bare::die("mmap of a vCPU");
      bare::must(ioctl(vcpu, _IOC(_IOC_WRITE, KVMIO, 0x90, 8), &cpuid), "KVM_SET_CPUID2");
      kvm_sregs system{};
      bare::must(ioctl(vcpu, KVM_GET_SREGS, &system), "KVM_GET_SREGS");
      kvm_segment flat{};
      flat.limit = 0xffffffff;
      flat.present = flat.s = flat.g = flat.db = 1;
      flat.dpl = 3;
      flat.type = 3;
      flat.selector = 0x23;
      system.ds = system.es = system.fs = system.gs = system.ss = flat;
      flat.selector = 0x1b;
      flat.type = 11;
      flat.l = 1;
      flat.db = 0;
      system.cs = flat;
      system.cr3 = kTables;
      system.cr4 = 0x620;
      system.cr0 = 0x80050033;
      system.efer = 0x500;
      bare::must(ioctl(vcpu, KVM_SET_SREGS, &system), "KVM_SET_SREGS");
      vcpus.push_back({vcpu, static_cast<kvm_run*>(run), kCorners + i * corner});
    }
  }

  /// One pass over `order`; the wrong words.
  std::uint64_t walk(std::uint64_t number, const std::vector<std::uint32_t>& order, std::uint64_t seed) {
    const Vcpu& vcpu = vcpus[number];
    auto* notes = reinterpret_cast<volatile std::uint64_t*>(own + vcpu.at);
    auto* entries = reinterpret_cast<std::uint64_t*>(own + vcpu.at + bare::kPage);
    for (std::size_t i = 0; i < order.size(); ++i) {
      const std::uint64_t base = bare::base_of(seed, order[i]), word = (base >> 40) & (bare::kWords - 1);
      entries[2 * i] = kRegionAt + order[i] * bare::kPage + word * 8;
      entries[2 * i + 1] = base + word * bare::kStride;
    }
    kvm_regs registers{};
    registers.rip = kCode;
    registers.r8 = vcpu.at + bare::kPage;
    registers.r9 = order.size();
    registers.r10 = vcpu.at;
    registers.r12 = idle_exits;
    registers.rflags = 2;
    bare::must(ioctl(vcpu.fd, KVM_SET_REGS, &registers), "KVM_SET_REGS");
    while (true) {
      if (ioctl(vcpu.fd, KVM_RUN, 0) == 0) {
        if (vcpu.run->exit_reason == KVM_EXIT_MMIO && vcpu.run->mmio.phys_addr == kDoorbell) {
          if (vcpu.run->mmio.data[0] != 0) continue;
          return notes[1];
        }
        std::fprintf(stderr, "KVM exit reason %u\n", vcpu.run->exit_reason);
        std::_Exit(1);
      }
      if (errno != EFAULT) bare::die("KVM_RUN");
      if (!view.install((notes[0] - kRegionAt) / bare::kPage, UFFDIO_CONTINUE_MODE_DONTWAKE)) bare::die("UFFDIO_CONTINUE");
    }
  }
};

int main(int argc, char** argv) { return bare::run<KvmNoUffdWait>(argc, argv); }
