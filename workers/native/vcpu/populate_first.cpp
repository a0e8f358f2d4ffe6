#include "vcpu/populate_first.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kernel/vocabulary.hpp"
#include "vcpu/vcpu.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kLookAgainNs = 100'000'000;
constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

void Vcpu::populate_first() {
  PopulateFirst& all = *vmm_.populate_first;
  if (all.take()) {
    populate_everything(all);
    all.finish();
    return;
  }
  // The watchdog sees how far the other one has got: who waits for it is not stuck before it is.
  state_.stage.store(Stage::populating, kRelaxed);
  while (!all.wait(kLookAgainNs) && !stopping()) state_.page.store(all.page(), kRelaxed);
}

void Vcpu::populate_everything(PopulateFirst& all) {
  const std::uint64_t pages = vmm_.guest.pages();
  const std::uint32_t block = vmm_.guest.config().fault_around_pages;
  slot_ = &records_[vmm_.record_capacity];  // fetch() stamps: into the scratch slot, this is nobody's fault
  for (std::uint64_t page = 0; page < pages && !stopping();) {
    all.reached(page);
    state_.page.store(page, kRelaxed);
    PageRun run{page, static_cast<std::uint32_t>(std::min<std::uint64_t>(block, pages - page))};
    if (fetch(page, run) != RequestState::present) return;  // the run is being stopped
    state_.stage.store(Stage::populating, kRelaxed);
    std::byte* at = vmm_.region + run.first * vmm_.page_bytes;
    const std::uint64_t bytes = run.count * vmm_.page_bytes;
    if (vmm_.memory == MemoryType::anon) {
      std::memcpy(at, vmm_.guest.payload(index_), bytes);
    } else if (::madvise(at, bytes, MADV_POPULATE_WRITE) != 0) {
      vmm_.guest.stop("populating page " + std::to_string(run.first) + " was refused with errno " + std::to_string(errno));
      return;
    }
    for (std::uint32_t i = 0; i < run.count; ++i) {
      if (!vmm_.resolver.record().claim(run.first + i, PageRecord::vcpu_claim())) continue;  // mapped before the start
      vmm_.resolver.record().set(run.first + i, PageState::resolved);
      ++resolved_;
    }
    state_.resolved_by_vcpu.store(resolved_, kRelaxed);
    page = run.first + run.count;
    milestones_.populated(clock_.now(), resolved_, pages);
  }
}

}  // namespace uffd
