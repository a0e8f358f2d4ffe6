#if defined(__aarch64__)

#include <sys/prctl.h>

#include "vcpu/touch_arm64.hpp"

// x0 to x30, then sp and pc, as the kernel lays them out. `ret` and not `br`, which branch target identification would refuse.
asm(R"(
  .pushsection .text.hot, "ax", %progbits
  .p2align 4
  .globl uffd_loadgen_leave
  .hidden uffd_loadgen_leave
  .type uffd_loadgen_leave, %function
uffd_loadgen_leave:
  mov x16, x0
  ldp x0, x1, [x16]
  ldp x19, x20, [x16, #8*19]
  ldp x21, x22, [x16, #8*21]
  ldp x23, x24, [x16, #8*23]
  ldp x25, x26, [x16, #8*25]
  ldp x27, x28, [x16, #8*27]
  ldr x29, [x16, #8*29]
  ldp x2, x17, [x16, #8*31]
  mov sp, x2
  ret x17
  .size uffd_loadgen_leave, .-uffd_loadgen_leave
  .popsection
)");

namespace uffd {

namespace {

constexpr int kShadowStackStatus = 74;              // PR_GET_SHADOW_STACK_STATUS of Linux 6.13
constexpr unsigned long kShadowStackOn = 1ul << 0;  // PR_SHADOW_STACK_ENABLE

}  // namespace

bool has_shadow_stack() noexcept {
  unsigned long status = 0;
  return ::prctl(kShadowStackStatus, &status, 0, 0, 0) == 0 && (status & kShadowStackOn) != 0;
}

}  // namespace uffd

#endif
