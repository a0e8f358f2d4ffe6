#include "vcpu/touch.hpp"

#include <sys/syscall.h>
#include <unistd.h>

namespace uffd {

namespace {

struct Noted {  // offsets from each field's own address
  std::int32_t at, after;
};

}  // namespace

extern "C" {
[[gnu::visibility("hidden")]] extern const Noted first_noted[] asm("__start_uffd_touches");
[[gnu::visibility("hidden")]] extern const Noted end_noted[] asm("__stop_uffd_touches");
/// Restores the `gregs` of a thread interrupted in a touch, and goes on there.
[[gnu::visibility("hidden")]] void uffd_loadgen_leave(const greg_t* gregs);
}

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

namespace {

constexpr int kShadowStackStatus = 0x5005;          // ARCH_SHSTK_STATUS of Linux 6.6
constexpr unsigned long kShadowStackOn = 1ul << 0;  // ARCH_SHSTK_SHSTK

[[gnu::tls_model("initial-exec")]] thread_local bool by_kernel = false;

/// Where the interrupted touch goes on when it is given up; 0 when the thread was in none.
[[gnu::hot]] std::uint64_t after_touch(const ucontext_t& context) noexcept {
  const auto at = static_cast<std::uint64_t>(context.uc_mcontext.gregs[REG_RIP]);
  for (const Noted* noted = first_noted; noted != end_noted; ++noted)
    if (reinterpret_cast<std::uint64_t>(&noted->at) + static_cast<std::uint64_t>(std::int64_t{noted->at}) == at)
      return reinterpret_cast<std::uint64_t>(&noted->after) + static_cast<std::uint64_t>(std::int64_t{noted->after});
  return 0;
}

}  // namespace

[[gnu::hot]] bool interrupted_a_touch(const ucontext_t& context) noexcept { return after_touch(context) != 0; }

void abandon_touch(ucontext_t& context) noexcept {
  context.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(after_touch(context));
  context.uc_mcontext.gregs[REG_RAX] = 0;
}

void return_by_kernel(bool always) noexcept { by_kernel = always; }

bool has_shadow_stack() noexcept {
  unsigned long features = 0;
  return ::syscall(SYS_arch_prctl, kShadowStackStatus, &features) == 0 && (features & kShadowStackOn) != 0;
}

[[gnu::hot]] void leave_for_touch(const ucontext_t& context) noexcept {
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
  if (!by_kernel) uffd_loadgen_leave(context.uc_mcontext.gregs);
#else
  (void)context;
#endif
}

}  // namespace uffd
