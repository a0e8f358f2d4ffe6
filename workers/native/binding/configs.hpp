// What Python asks for, as dictionaries whose keys are the fields' names. Each throws ConfigError with the key that is wrong.
#pragma once

#include <nanobind/nanobind.h>

#include "server/page_server.hpp"
#include "source/source_server.hpp"
#include "vmm/vmm.hpp"

namespace uffd {

GuestConfig guest_config(nanobind::dict dict);
AccessConfig access_config(nanobind::dict dict);
PageServerConfig server_config(nanobind::dict dict);
SourceServerConfig source_server_config(nanobind::dict dict);
VmmConfig vmm_config(nanobind::dict dict);
/// Regions in the words of the handshake.
std::vector<RegionView> region_views(nanobind::iterable regions);

}  // namespace uffd
