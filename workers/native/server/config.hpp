// What a page server is asked to do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "guest/inject.hpp"
#include "kernel/placement.hpp"
#include "source/source.hpp"

namespace uffd {

enum class Wait { poll, epoll, spin };
/// Throws ConfigError.
Wait wait_of(const std::string& name);

struct PrefetchConfig {
  std::string name = "none";         ///< none, order, working_set
  std::vector<std::uint32_t> pages;  ///< working_set: in the order they are to come
  std::uint32_t batch_pages = 16;    ///< most neighbours brought at a time; one batch is under way at a time
  double mib_per_s = 0.0;            ///< 0: as fast as it goes
  CpuList cpus;                      ///< its thread may run on; empty: anywhere
};

struct PageServerConfig {
  std::uint32_t readers = 1;
  std::string wait = "poll";
  std::uint32_t events_per_read = 16;
  double delay_us = 0.0;
  bool delay_exponential = false;
  std::uint64_t seed = 0;
  std::uint32_t fault_around_pages = 1;
  bool track_removes = false;  ///< the userfaultfds report pages that are taken away
  std::vector<CpuList> reader_cpus;
  SourceConfig source;
  Inject inject;
  bool wake_first = false;       ///< a fault's own page is installed and woken before the pages around it
  std::uint64_t log_faults = 0;  ///< of a foreign VMM: records kept of its faults
  bool successor = false;        ///< in place of a page server that was killed while it served this guest
  PrefetchConfig prefetch;
};

/// Throws ConfigError: a value out of range, an unknown name, a page that the guest does not have.
void check(const PageServerConfig& config, const Guest& guest);

}  // namespace uffd
