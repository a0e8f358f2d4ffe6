#include "touch.hpp"

asm(R"(
  .section .text.hot, "ax", @progbits
  .p2align 4
  .globl uffd_loadgen_touch_read, uffd_loadgen_touch_read_at, uffd_loadgen_touch_return
  .hidden uffd_loadgen_touch_read, uffd_loadgen_touch_read_at, uffd_loadgen_touch_return
  .type uffd_loadgen_touch_read, @function
uffd_loadgen_touch_read:
uffd_loadgen_touch_read_at:
  movq (%rdi), %rax
uffd_loadgen_touch_return:
  ret
  .size uffd_loadgen_touch_read, .-uffd_loadgen_touch_read
  .p2align 4
  .globl uffd_loadgen_touch_write, uffd_loadgen_touch_write_at
  .hidden uffd_loadgen_touch_write, uffd_loadgen_touch_write_at
  .type uffd_loadgen_touch_write, @function
uffd_loadgen_touch_write:
  xorl %eax, %eax
uffd_loadgen_touch_write_at:
  lock xaddq %rax, (%rdi)
  ret
  .size uffd_loadgen_touch_write, .-uffd_loadgen_touch_write
  # The order of gregs is the kernel's: r8-r15 at 0-7, rdi 8, rsi 9, rbp 10, rbx 11, rdx 12, rax 13, rcx 14, rsp 15, rip 16.
  .p2align 4
  .globl uffd_loadgen_touch_leave
  .hidden uffd_loadgen_touch_leave
  .type uffd_loadgen_touch_leave, @function
uffd_loadgen_touch_leave:
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
  .size uffd_loadgen_touch_leave, .-uffd_loadgen_touch_leave
  .text
)");
