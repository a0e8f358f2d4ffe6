// The touches of arm64, and the registers of an interrupted one.
#pragma once

#include <ucontext.h>

#include <cstdint>

namespace uffd {

// What a handler may spoil that returns by leave_for_touch(): every register that a function need not keep, and all of the vector
// registers, of whose callee-saved ones the kernel's frame has the only copy.
#define UFFD_TOUCH_CLOBBERS                                                                                                   \
  "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x30", "v0", \
      "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18",    \
      "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", "cc", "memory"
/// Notes that the instruction at `at` is a touch which, given up, goes on at `after`.
#define UFFD_NOTE_TOUCH(at, after)                   \
  "  .pushsection uffd_touches, \"a\", %%progbits\n" \
  "  .balign 4\n"                                    \
  "  .word " at " - ., " after                       \
  " - .\n"                                           \
  "  .popsection\n"

/// Loads the word.
[[gnu::always_inline]] inline std::uint64_t touch_read(const std::uint64_t* at) noexcept {
  register std::uint64_t value asm("x0") = 0;
  register const std::uint64_t* word asm("x1") = at;
  asm volatile("1: ldr x0, [x1]\n2:\n" UFFD_NOTE_TOUCH("1b", "2b") : "+r"(value), "+r"(word) : : UFFD_TOUCH_CLOBBERS);
  return value;
}

/// Stores the word that it holds to it, atomically: a write fault and a dirty page that leave the contents as they are. Returns
/// the word. A pair of exclusives and no LSE instruction, which not every arm64 has: either of the two may fault, and a resolve
/// between them makes the store fail and the loop begin again.
[[gnu::always_inline]] inline std::uint64_t touch_write(std::uint64_t* at) noexcept {
  register std::uint64_t value asm("x0") = 0;
  register std::uint64_t* word asm("x1") = at;
  asm volatile(
      "1: ldaxr x0, [x1]\n"
      "2: stlxr w2, x0, [x1]\n"
      "   cbnz w2, 1b\n"
      "3:\n" UFFD_NOTE_TOUCH("1b", "3b") UFFD_NOTE_TOUCH("2b", "3b")
      : "+r"(value), "+r"(word)
      :
      : UFFD_TOUCH_CLOBBERS);
  return value;
}

/// The registers that uffd_loadgen_leave() puts back.
inline const void* saved_registers(const ucontext_t& context) noexcept { return context.uc_mcontext.regs; }
/// Where `context` was interrupted.
inline std::uint64_t interrupted_at(const ucontext_t& context) noexcept { return context.uc_mcontext.pc; }
/// Makes a touch go on at `next` with `value` for its word.
inline void go_on_at(ucontext_t& context, std::uint64_t next, std::uint64_t value) noexcept {
  context.uc_mcontext.pc = next;
  context.uc_mcontext.regs[0] = value;
}

/// Whether this thread has a user shadow stack (Linux 6.13): the kernel puts a frame of the handler's on it that only
/// rt_sigreturn takes off again.
bool has_shadow_stack() noexcept;

}  // namespace uffd
