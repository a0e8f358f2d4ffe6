// A whole guest on real vCPUs.
#pragma once

#include <unistd.h>

#include "check.hpp"
#include "whole_guest.hpp"

inline void needs_kvm() {
  if (::access("/dev/kvm", R_OK | W_OK) != 0) throw check::Skipped("/dev/kvm cannot be used");
}

/// Without an invariant counter of the host's a guest has no stamps of its own, and cannot keep a rate.
inline void needs_stamps() {
  needs_kvm();
  if (!uffd::Clock::get().invariant()) throw check::Skipped("no invariant counter, so a guest has no stamps of its own");
}

inline GuestPlan on_kvm(GuestPlan plan = {}) {
  plan.vmm.engine = "kvm";
  return plan;
}

inline GuestPlan in_kernel_mode(GuestPlan plan) {
  plan.vmm.engine_options["guest_mode"] = 1;
  return plan;
}
