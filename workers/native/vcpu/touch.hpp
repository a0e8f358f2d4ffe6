// The instructions that touch guest memory. Each is noted in a table of its own section, with the address after it: a SIGBUS
// at one of them is a vCPU's exit and nothing else's, and an access that must be given up goes on after it, so there is no
// setjmp on the measured path. In line, because a call and its return cost a sleeping vCPU 3 % of its fault.
#pragma once

#include <ucontext.h>

#include <cstdint>

#if !defined(__x86_64__)
#error "touch.hpp has x86-64 only: add the two instructions and the registers of this architecture"
#endif

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

/// Whether `context` was interrupted at a touch.
bool interrupted_a_touch(const ucontext_t& context) noexcept;
/// Makes an interrupted touch go on after its instruction, with 0 for the word.
void abandon_touch(ucontext_t& context) noexcept;

/// Leaves the SIGBUS handler for the touch it interrupted, without the kernel: rt_sigreturn is a tenth of an emulated exit.
/// To the compiler a touch spoils what a function call would, so besides the instruction and the stack only the registers a
/// function keeps need to be put back; the handler was entered without changing the signal mask (SA_NODEFER, empty mask) and
/// on the thread's own stack, so nothing in the kernel needs undoing. Returns (and so leaves by rt_sigreturn) in sanitizer
/// builds, whose runtimes keep count of handlers, and on a thread that has return_by_kernel().
void leave_for_touch(const ucontext_t& context) noexcept;

/// Has this thread leave its handlers by rt_sigreturn from now on, or no longer.
void return_by_kernel(bool always) noexcept;
/// Whether this thread has a user shadow stack (Linux 6.6): the kernel puts a frame of the handler's on it that only rt_sigreturn
/// takes off again.
bool has_shadow_stack() noexcept;

}  // namespace uffd
