// A VMM process's mapping of the guest region, and the userfaultfds that cover it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "guest/guest.hpp"
#include "kernel/mapping.hpp"
#include "kernel/userfaultfd.hpp"
#include "resolve/resolver.hpp"

namespace uffd {

struct RegistrationPlan {
  std::string snapshot;        ///< of MemoryType::file
  std::uint32_t uffds = 1;     ///< the region is cut into as many shards
  bool userfaultfd = true;     ///< false: shards without one
  std::uint64_t features = 0;  ///< beyond those the memory type needs
};

/// The features of a userfaultfd over this memory; `own`: those of the strategy.
std::uint64_t userfaultfd_features(MemoryType memory, std::uint64_t own);

struct Registration {
  /// Maps and registers. Throws KernelError, ConfigError.
  Registration(const Guest& guest, const RegistrationPlan& plan);
  /// Ends registration: no thread sleeps in it any more.
  void end_sleepers() const noexcept;
  /// Registers what end_sleepers() has let go. Throws KernelError.
  void register_again();

  Mapping region;
  std::uint64_t page_bytes;
  std::uint64_t mode;  ///< of registration
  std::vector<std::unique_ptr<Userfaultfd>> uffds;
  std::vector<Shard> shards;

 private:
  void add_shards(const Guest& guest, const RegistrationPlan& plan);
  void add_regions(const Guest& guest, const RegistrationPlan& plan);
};

}  // namespace uffd
