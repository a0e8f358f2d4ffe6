#include "vcpu/touch.hpp"

namespace uffd {

namespace {

struct Noted {  // offsets from each field's own address
  std::int32_t at, after;
};

}  // namespace

extern "C" {
[[gnu::visibility("hidden")]] extern const Noted first_noted[] asm("__start_uffd_touches");
[[gnu::visibility("hidden")]] extern const Noted end_noted[] asm("__stop_uffd_touches");
/// Puts back what saved_registers() holds of a thread interrupted in a touch, and goes on there.
[[gnu::visibility("hidden")]] void uffd_loadgen_leave(const void* registers);
}

namespace {

[[gnu::tls_model("initial-exec")]] thread_local bool by_kernel = false;

/// Where the interrupted touch goes on when it is given up; 0 when the thread was in none.
[[gnu::hot]] std::uint64_t after_touch(const ucontext_t& context) noexcept {
  const std::uint64_t at = interrupted_at(context);
  for (const Noted* noted = first_noted; noted != end_noted; ++noted)
    if (reinterpret_cast<std::uint64_t>(&noted->at) + static_cast<std::uint64_t>(std::int64_t{noted->at}) == at)
      return reinterpret_cast<std::uint64_t>(&noted->after) + static_cast<std::uint64_t>(std::int64_t{noted->after});
  return 0;
}

}  // namespace

[[gnu::hot]] bool interrupted_a_touch(const ucontext_t& context) noexcept { return after_touch(context) != 0; }

void abandon_touch(ucontext_t& context) noexcept { go_on_at(context, after_touch(context), 0); }

void return_by_kernel(bool always) noexcept { by_kernel = always; }

[[gnu::hot]] void leave_for_touch(const ucontext_t& context) noexcept {
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
  if (!by_kernel) uffd_loadgen_leave(saved_registers(context));
#else
  (void)context;
#endif
}

}  // namespace uffd
