// Threads of the VMM process that map and unmap memory of their own, as hot-plug or a growing heap would: each call takes the
// mmap_lock for writing, and readers of the lock wait.
#include <algorithm>

#include "disturb/disturbance.hpp"
#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {
namespace {

class MmapWriters final : public Disturbance {
 public:
  explicit MmapWriters(const MmapWritersConfig& config) : config_(config) {}

  const char* role() const override { return "mmap_writer"; }
  std::uint32_t threads() const override { return config_.threads; }
  double rate_per_s() const override { return config_.rate_per_s; }

  void work(std::uint32_t, Disturber& me) override {
    const std::uint64_t bytes = std::uint64_t{config_.map_kib} * 1024;
    while (me.next()) {
      void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (mapped == MAP_FAILED) throw KernelError("mmap", errno, 0, bytes);
      *static_cast<volatile char*>(mapped) = 1;  // something to unmap
      if (::munmap(mapped, bytes) != 0) throw KernelError("munmap", errno, reinterpret_cast<std::uint64_t>(mapped), bytes);
      ++me.counters[Counter::maps];
      ++me.done;
    }
  }

 private:
  MmapWritersConfig config_;
};

}  // namespace

std::unique_ptr<Disturbance> make_mmap_writers(const DisturbConfig& config, const Scene&) {
  if (config.mmap_writers.threads == 0) return nullptr;
  return std::make_unique<MmapWriters>(config.mmap_writers);
}

}  // namespace uffd
