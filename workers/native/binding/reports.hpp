// What a run gave, as dictionaries by the names of the results' columns.
#pragma once

#include <nanobind/nanobind.h>

#include "resolve/fill.hpp"
#include "server/page_server.hpp"
#include "source/source_server.hpp"
#include "vcpu/calibration.hpp"
#include "vmm/vmm.hpp"

namespace uffd {

nanobind::dict to_dict(const Counters& counters);
nanobind::dict to_dict(const Calibration& calibration);
nanobind::dict to_dict(const Source& source);  ///< empty unless it is a remote one
nanobind::dict to_dict(const Served& served);
nanobind::dict to_dict(const Live::Look& look);
nanobind::dict to_dict(const Filled& filled);
nanobind::dict to_dict(const Prepared& prepared);
nanobind::dict to_dict(const Verified& verified);
nanobind::dict to_dict(const PageStates& states);
nanobind::dict prefetch_marks(const PageServer& server);
nanobind::list server_threads(const PageServer& server);
/// Of a foreign VMM: the bytes of its fault records, and of the thread ids.
nanobind::tuple logged_faults(const PageServer& server);
nanobind::list vmm_vcpus(const Vmm& vmm);
nanobind::list vmm_disturbers(const Vmm& vmm);
/// (descriptor, regions) of each userfaultfd, the regions in the words of the handshake.
nanobind::list vmm_userfaultfds(const Vmm& vmm);
/// (descriptor, regions, descriptor of the page record) of the devices' own mapping; None without one.
nanobind::object vmm_device_userfaultfd(const Vmm& vmm);
/// The type of a fault record, for NumPy.
nanobind::object fault_dtype();
/// The records of one vCPU where they lie: an array that keeps `self`, a Vmm, alive.
nanobind::object vcpu_records(nanobind::object self, std::uint32_t index);

}  // namespace uffd
