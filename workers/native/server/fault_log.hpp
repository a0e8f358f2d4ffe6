// What the faults of a foreign VMM leave: records like those of our vCPUs, in the order in which they were read. The readers own
// them: raised and resumed are the VMM's secret.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>

#include "guest/fault_record.hpp"
#include "kernel/mapping.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

class FaultLog {
 public:
  /// Memory is used as it fills. Throws KernelError.
  explicit FaultLog(std::uint64_t capacity)
      : capacity_(capacity),
        records_(Mapping::anonymous(capacity * sizeof(FaultRecord), kBasePageBytes)),
        tids_(Mapping::anonymous(capacity * sizeof(std::uint32_t), kBasePageBytes)) {}

  /// Null when it is full.
  [[gnu::hot]] FaultRecord* add(std::uint64_t page, Ticks delivered, bool write, std::uint32_t tid) noexcept {
    const std::uint64_t at = next_.fetch_add(1, std::memory_order_relaxed);  // relaxed: each takes a place of its own
    if (at >= capacity_) return nullptr;
    FaultRecord& record = reinterpret_cast<FaultRecord*>(records_.data())[at];
    record.page.store(static_cast<std::uint32_t>(page), std::memory_order_relaxed);  // relaxed: read after the end
    record.delivered.store(delivered, std::memory_order_relaxed);                    // relaxed: read after the end
    record.kind = Kind::absent;
    record.outcome = FaultOutcome::waited;
    record.write = write;
    reinterpret_cast<std::uint32_t*>(tids_.data())[at] = tid;
    return &record;
  }

  // Once the readers have ended.
  std::span<const FaultRecord> records() const noexcept { return {reinterpret_cast<FaultRecord*>(records_.data()), size()}; }
  std::span<const std::uint32_t> tids() const noexcept { return {reinterpret_cast<std::uint32_t*>(tids_.data()), size()}; }

 private:
  std::size_t size() const noexcept { return std::min(next_.load(std::memory_order_relaxed), capacity_); }  // relaxed: likewise

  std::uint64_t capacity_;
  Mapping records_, tids_;
  std::atomic<std::uint64_t> next_{0};
};

}  // namespace uffd
