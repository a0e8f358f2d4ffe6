// The touches of x86-64, and the registers of an interrupted one.
#pragma once

#include <ucontext.h>

#include <cstdint>

namespace uffd {

// What a handler may spoil that returns by leave_for_touch(): every register that a function need not keep.
#define UFFD_TOUCH_CLOBBERS                                                                                                      \
  "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
      "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory"
#define UFFD_TOUCH(instruction)                     \
  "1: " instruction                                 \
  "\n"                                              \
  "2:\n"                                            \
  "  .pushsection uffd_touches, \"a\", @progbits\n" \
  "  .balign 4\n"                                   \
  "  .long 1b - ., 2b - .\n"                        \
  "  .popsection\n"

/// Loads the word.
[[gnu::always_inline]] inline std::uint64_t touch_read(const std::uint64_t* word) noexcept {
  std::uint64_t value = 0;
  asm volatile(UFFD_TOUCH("movq (%%rdi), %%rax") : "+a"(value), "+D"(word) : : UFFD_TOUCH_CLOBBERS);
  return value;
}

/// Adds 0 to the word, atomically: a write fault and a dirty page that leave the contents as they are. Returns the word.
[[gnu::always_inline]] inline std::uint64_t touch_write(std::uint64_t* word) noexcept {
  std::uint64_t value = 0;
  asm volatile(UFFD_TOUCH("lock xaddq %%rax, (%%rdi)") : "+a"(value), "+D"(word) : : UFFD_TOUCH_CLOBBERS);
  return value;
}

/// The registers that uffd_loadgen_leave() puts back.
inline const void* saved_registers(const ucontext_t& context) noexcept { return context.uc_mcontext.gregs; }
/// Where `context` was interrupted.
inline std::uint64_t interrupted_at(const ucontext_t& context) noexcept {
  return static_cast<std::uint64_t>(context.uc_mcontext.gregs[REG_RIP]);
}
/// Makes a touch go on at `next` with `value` for its word.
inline void go_on_at(ucontext_t& context, std::uint64_t next, std::uint64_t value) noexcept {
  context.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(next);
  context.uc_mcontext.gregs[REG_RAX] = static_cast<greg_t>(value);
}

/// Whether this thread has a user shadow stack (Linux 6.6): the kernel puts a frame of the handler's on it that only rt_sigreturn
/// takes off again.
bool has_shadow_stack() noexcept;

}  // namespace uffd
