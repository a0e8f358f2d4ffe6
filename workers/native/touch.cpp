#include "touch.hpp"

asm(R"(
  .text
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
)");
