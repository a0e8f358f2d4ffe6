// The instructions that touch guest memory. Each is noted in a table of its own section, with the address after it: a SIGBUS
// at one of them is a vCPU's exit and nothing else's, and an access that must be given up goes on after it, so there is no
// setjmp on the measured path. In line, because a call and its return cost a sleeping vCPU 3 % of its fault.
// touch_<architecture>.hpp has the instructions and the registers, touch_<architecture>.cpp the way back from a handler.
#pragma once

#if defined(__x86_64__)
#include "vcpu/touch_x86_64.hpp"
#elif defined(__aarch64__)
#include "vcpu/touch_arm64.hpp"
#else
#error "touch.hpp has x86-64 and arm64: add the two instructions and the registers of this architecture"
#endif

namespace uffd {

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

}  // namespace uffd
