// The two instructions that touch guest memory, at known addresses. A SIGBUS there is a vCPU's exit and nothing else's, and an
// access that must be given up is ended by moving the instruction pointer to the return: no setjmp on the measured path.
#pragma once

#include <ucontext.h>

#include <cstdint>

#if !defined(__x86_64__)
#error "touch.hpp knows x86-64 only: add the two instructions and the two registers of this architecture"
#endif

extern "C" {
/// Loads the word.
std::uint64_t uffd_loadgen_touch_read(const std::uint64_t* word);
/// Adds 0 to the word, atomically: a write fault and a dirty page that leave the contents as they are. Returns the word.
std::uint64_t uffd_loadgen_touch_write(std::uint64_t* word);
extern const char uffd_loadgen_touch_read_at[];
extern const char uffd_loadgen_touch_write_at[];
extern const char uffd_loadgen_touch_return[];
/// Puts back what `gregs` (of a ucontext_t) says of a thread interrupted in a touch, and goes on there.
void uffd_loadgen_touch_leave(const greg_t* gregs);
}

namespace uffd {

inline bool interrupted_a_touch(const ucontext_t& context) {
  const auto at = reinterpret_cast<const char*>(context.uc_mcontext.gregs[REG_RIP]);
  return at == uffd_loadgen_touch_read_at || at == uffd_loadgen_touch_write_at;
}

inline void abandon_touch(ucontext_t& context) {
  context.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(uffd_loadgen_touch_return);
}

/// Leaves the SIGBUS handler for the touch it interrupted, without the kernel: rt_sigreturn is a tenth of an emulated exit.
/// A touch is a function call to the compiler, so besides the instruction and the stack only the registers a function keeps
/// need to be put back; the handler was entered without changing the signal mask (SA_NODEFER, empty mask) and on the
/// thread's own stack, so nothing in the kernel needs undoing. Returns (and so leaves by rt_sigreturn) in sanitizer builds,
/// whose runtimes keep count of handlers.
inline void leave_for_touch(const ucontext_t& context) {
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
  uffd_loadgen_touch_leave(context.uc_mcontext.gregs);
#else
  (void)context;
#endif
}

}  // namespace uffd
