#if defined(__x86_64__)

#include <sys/syscall.h>
#include <unistd.h>

#include "vcpu/touch_x86_64.hpp"

// The order of gregs is the kernel's: r8-r15 at 0-7, rdi 8, rsi 9, rbp 10, rbx 11, rdx 12, rax 13, rcx 14, rsp 15, rip 16.
asm(R"(
  .pushsection .text.hot, "ax", @progbits
  .p2align 4
  .globl uffd_loadgen_leave
  .hidden uffd_loadgen_leave
  .type uffd_loadgen_leave, @function
uffd_loadgen_leave:
  movq %rdi, %rcx
  movq 8*4(%rcx), %r12
  movq 8*5(%rcx), %r13
  movq 8*6(%rcx), %r14
  movq 8*7(%rcx), %r15
  movq 8*8(%rcx), %rdi
  movq 8*10(%rcx), %rbp
  movq 8*11(%rcx), %rbx
  movq 8*13(%rcx), %rax
  movq 8*16(%rcx), %rdx
  movq 8*15(%rcx), %rsp
  jmp *%rdx
  .size uffd_loadgen_leave, .-uffd_loadgen_leave
  .popsection
)");

namespace uffd {

namespace {

constexpr int kShadowStackStatus = 0x5005;          // ARCH_SHSTK_STATUS of Linux 6.6
constexpr unsigned long kShadowStackOn = 1ul << 0;  // ARCH_SHSTK_SHSTK

}  // namespace

bool has_shadow_stack() noexcept {
  unsigned long features = 0;
  return ::syscall(SYS_arch_prctl, kShadowStackStatus, &features) == 0 && (features & kShadowStackOn) != 0;
}

}  // namespace uffd

#endif
