// What this build and this kernel can do, as Python reads it.
#pragma once

#include <nanobind/nanobind.h>

namespace uffd {

nanobind::list describe_strategies();
nanobind::list describe_engines();
nanobind::dict describe_kvm();
nanobind::list describe_own_accesses();
nanobind::dict describe_userfaultfd();
nanobind::dict describe_clock();
nanobind::list describe_emulated();

}  // namespace uffd
