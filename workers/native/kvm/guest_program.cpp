// Compiled for the guest: general registers only, everything in line and in one section, nothing outside it referred to.
#include "kvm/guest_program.hpp"

extern "C" [[gnu::section("uffd_guest"), gnu::flatten, gnu::used, gnu::visibility("hidden")]] void uffd_guest_main(
    uffd::GuestVcpu* vcpu) {
  vcpu->live();
}
