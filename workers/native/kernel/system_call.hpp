// System calls of the measured path, made in line: a call into the C library costs two more code pages on every trip, which
// under virtualisation is two TLB misses of 50 to 100 ns each. The result is the kernel's own: a negative errno, or what
// the call returns.
#pragma once

#include <unistd.h>
#if !defined(__x86_64__) && !defined(__aarch64__)
#include <cerrno>
#endif

namespace uffd {

inline long system_call(long number, long a, long b, long c, long d = 0) noexcept {
#if defined(__x86_64__)
  long result;
  register long fourth asm("r10") = d;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth) : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long first asm("x0") = a;
  register long second asm("x1") = b;
  register long third asm("x2") = c;
  register long fourth asm("x3") = d;
  register long which asm("x8") = number;
  asm volatile("svc #0" : "+r"(first) : "r"(second), "r"(third), "r"(fourth), "r"(which) : "memory");
  return first;
#else
  const long result = ::syscall(number, a, b, c, d);
  return result == -1 ? -errno : result;
#endif
}

}  // namespace uffd
