// A whole guest on real vCPUs.
#pragma once

#include <unistd.h>

#include <cstdio>

#include "whole_guest.hpp"

inline bool no_kvm() {
  if (::access("/dev/kvm", R_OK | W_OK) == 0) return false;
  std::puts("skipped: /dev/kvm cannot be used");
  return true;
}

inline GuestPlan on_kvm(GuestPlan plan = {}) {
  plan.vmm.engine = "kvm";
  return plan;
}

inline GuestPlan in_kernel_mode(GuestPlan plan) {
  plan.vmm.engine_options["guest_mode"] = 1;
  return plan;
}
