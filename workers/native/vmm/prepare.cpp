#include "vmm/prepare.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"
#include "vcpu/touch.hpp"

namespace uffd {

namespace {

constexpr int kPageoutTries = 5;  // without progress, before it sleeps between them
constexpr std::chrono::milliseconds kPageoutPause{2};
constexpr int kPageoutLeastTries = 50;  // on a busy machine each of them takes its time

class Preparation {
 public:
  explicit Preparation(const PrepareJob& job)
      : guest_(job.guest),
        region_(job.region),
        resolver_(job.resolver),
        record_(job.resolver.record()),
        userfaultfd_(job.userfaultfd),
        cold_(job.cold),
        first_vmm_(job.first_vmm),
        again_(job.again),
        anon_(job.guest.config().memory == MemoryType::anon),
        huge_(job.guest.config().memory == MemoryType::hugetlb),
        page_bytes_(job.guest.config().page_bytes),
        pageout_(job.pageout),
        pagemap_(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)),
        contents_(anon_ ? page_bytes_ : 0),
        poisoned_(job.guest.config().poisoned_when_resolved ? job.guest.pages() : 0) {
    if (!pagemap_.valid()) throw KernelError("open of /proc/self/pagemap", errno);
  }

  Prepared run() {
    const auto kinds = guest_.kinds();
    bool any_swapped = false;
    for (std::uint64_t page = 0; page < kinds.size(); ++page) {
      switch (static_cast<Kind>(kinds[page])) {
        case Kind::hit: map(page); break;
        case Kind::swapped:
          any_swapped = true;
          if (first_vmm_) map(page);
          break;
        case Kind::poisoned:
          if (guest_.config().poisoned_when_resolved) poison(page);
          break;
        case Kind::minor:
        case Kind::absent: break;
      }
    }
    if (any_swapped) {
      if (first_vmm_) page_out();
      for (std::uint64_t page = 0; page < kinds.size(); ++page)
        if (static_cast<Kind>(kinds[page]) == Kind::swapped) record_.swap_out(page);
    }
    prove();
    return prepared_;
  }

 private:
  std::byte* at(std::uint64_t page) const { return region_.data() + guest_.layout().offset(page); }

  void map(std::uint64_t page) {
    if (!userfaultfd_) {
      if (anon_) guest_.contents().fill(page, at(page));
      touch_write(reinterpret_cast<std::uint64_t*>(at(page)));
      if (record_.claim(page, PageRecord::vcpu_claim())) record_.resolve(page);
      return;
    }
    if (anon_) guest_.contents().fill(page, contents_.data());
    if (!record_.claim(page, PageRecord::vcpu_claim())) return;
    refuse(page, resolver_.install({page, 1}, {.wanted = page, .from = anon_ ? contents_.data() : nullptr}, counters_));
  }

  void refuse(std::uint64_t page, const Installed& installed) const {
    if (installed.end != Installed::End::refused) return;
    throw KernelError("preparing the guest: " + resolver_.refusal({page, 1}, installed), installed.error);
  }

  // Resolved, then poisoned: the kernel has the poison, the VMM's record still has the page as resolved. A second resolve
  // un-poisons it; so the page cache has wrong contents, which verification finds. The kernel poisons blank pages only, and a
  // drop of the page would be a remove event.
  void poison(std::uint64_t page) {
    if (!record_.claim(page, PageRecord::vcpu_claim())) return;
    const Installed poisoned = resolver_.poison(page, false, counters_);
    refuse(page, poisoned);
    if (poisoned.pages != 0) {
      record_.hide_poison(page);
      poisoned_[page] = true;
    }
    if (anon_ || !first_vmm_ || again_) return;
    if (!alias_.data()) alias_ = Mapping::shared(guest_.region_fd(), guest_.config().region_bytes);
    auto* words = reinterpret_cast<std::uint64_t*>(alias_.data() + page * page_bytes_);
    for (std::uint64_t i = 0; i < page_bytes_ / sizeof *words; ++i) words[i] = ~words[i];
  }

  // A page that was just installed waits in a CPU's LRU batch, where reclaim does not find it; move_pages of nothing empties
  // them all. A page that the kernel's own reclaim (DAMON, kswapd) has taken off the LRU is not found either until it is put
  // back, which a busy machine delays.
  void page_out() {
    std::uint64_t fewest = ~std::uint64_t{0};
    const auto began = std::chrono::steady_clock::now();
    auto progress = began, now = began;
    const auto goes_on = [&](int stalled) {
      return (stalled < kPageoutLeastTries || now - progress < pageout_.without_progress) && now - began < pageout_.longest;
    };
    for (int stalled = 0; goes_on(stalled); ++stalled, now = std::chrono::steady_clock::now()) {
      int none = 0;
      ::syscall(SYS_move_pages, 0, 0, nullptr, &none, &none, 0);
      std::uint64_t left = 0;
      const auto kinds = guest_.kinds();
      for (std::uint64_t page = 0; page < kinds.size();) {
        if (static_cast<Kind>(kinds[page]) != Kind::swapped) {
          ++page;
          continue;
        }
        std::uint64_t end = page + 1;
        while (end < kinds.size() && static_cast<Kind>(kinds[end]) == Kind::swapped) ++end;
        if (::madvise(at(page), (end - page) * page_bytes_, MADV_PAGEOUT) != 0)
          throw KernelError("madvise MADV_PAGEOUT", errno, reinterpret_cast<std::uint64_t>(at(page)), (end - page) * page_bytes_);
        page = end;
      }
      load(0, kinds.size());
      for (std::uint64_t page = 0; page < kinds.size(); ++page)
        left += static_cast<Kind>(kinds[page]) == Kind::swapped && !swapped(page);
      if (left == 0) return;
      if (left < fewest) {
        stalled = 0;
        progress = now;
      }
      fewest = std::min(fewest, left);
      if (stalled >= kPageoutTries) std::this_thread::sleep_for(kPageoutPause);
    }
  }

  // Shared memory keeps no swap entry in the page table, so there the proof is that the page cache has it no more.
  bool swapped(std::uint64_t page) const { return anon_ ? in_swap(page) : !present(page) && !cached(page); }
  bool present(std::uint64_t page) const { return entries_[page - from_] >> 63 != 0; }
  bool in_swap(std::uint64_t page) const { return entries_[page - from_] >> 62 == 1; }
  bool cached(std::uint64_t page) const { return (resident_[page - from_] & 1) != 0; }

  /// The kernel's state of the first base page of each page in [first, end), of one region.
  void load(std::uint64_t first, std::uint64_t end) {
    from_ = first;
    const std::uint64_t step = page_bytes_ / kBasePageBytes;
    const std::uint64_t count = (end - first) * step;
    std::vector<std::uint64_t> entries(count);
    std::vector<unsigned char> resident(count);
    const auto offset = static_cast<off_t>(reinterpret_cast<std::uint64_t>(at(first)) / kBasePageBytes * sizeof(std::uint64_t));
    const auto wanted = static_cast<ssize_t>(count * sizeof(std::uint64_t));
    if (::pread(pagemap_.get(), entries.data(), static_cast<std::size_t>(wanted), offset) != wanted)
      throw KernelError("pread of /proc/self/pagemap", errno, region_.address(), region_.bytes());
    if (::mincore(at(first), count * kBasePageBytes, resident.data()) != 0)
      throw KernelError("mincore", errno, region_.address(), region_.bytes());
    entries_.resize(end - first);
    resident_.resize(end - first);
    for (std::uint64_t i = 0; i < end - first; ++i) {
      entries_[i] = entries[i * step];
      resident_[i] = resident[i * step];
    }
  }

  bool as_asked(std::uint64_t page, Kind kind) const {
    switch (kind) {
      case Kind::hit: return present(page);
      case Kind::minor: return !present(page) && !in_swap(page);
      // A handler that is not ours may bring pages from the moment it has the userfaultfd.
      case Kind::absent: return guest_.config().external || (!present(page) && !in_swap(page) && !(cold_ && cached(page)));
      case Kind::swapped: return first_vmm_ ? swapped(page) : !present(page);
      case Kind::poisoned:
        if (!guest_.config().poisoned_when_resolved) return !present(page) && !in_swap(page);
        // pagemap does not show the markers of huge pages (probed on 6.18): there the ioctl's word has to do.
        return poisoned_[page] && !present(page) && (in_swap(page) || huge_);
    }
    return false;
  }

  void prove() {
    constexpr std::uint64_t kBatch = 1 << 15;
    const auto kinds = guest_.kinds();
    for (std::uint64_t first = 0, end = 0; first < kinds.size(); first = end) {
      end = std::min<std::uint64_t>(first + kBatch, guest_.layout().end_page(guest_.layout().region_of(first)));
      load(first, end);
      for (std::uint64_t page = first; page < end; ++page) {
        const auto kind = static_cast<Kind>(kinds[page]);
        ++(as_asked(page, kind) ? prepared_.pages[static_cast<std::size_t>(kind)] : prepared_.unprepared);
      }
    }
  }

  const Guest& guest_;
  const Mapping& region_;
  const Resolver& resolver_;
  const PageRecord& record_;
  const bool userfaultfd_, cold_, first_vmm_, again_, anon_, huge_;
  const std::uint64_t page_bytes_;
  const PageoutBounds pageout_;
  Descriptor pagemap_;
  std::vector<std::byte> contents_;
  std::vector<bool> poisoned_;  ///< by page: the kernel took UFFDIO_POISON
  Mapping alias_;
  std::uint64_t from_ = 0;
  std::vector<std::uint64_t> entries_;
  std::vector<unsigned char> resident_;
  Counters counters_;
  Prepared prepared_;
};

// Nothing else of the devices' own mapping is prepared: a page that it has not got is brought when a device touches it.
void poison_for_devices(const Guest& guest, const DeviceMapping& devices) {
  const PageRecord record = devices.pages();
  const Resolver resolver({{&devices.uffd, devices.region.address(), 0, guest.pages()}}, record, guest.config(), 1);
  const auto kinds = guest.kinds();
  Counters counters;
  for (std::uint64_t page = 0; page < kinds.size(); ++page) {
    if (static_cast<Kind>(kinds[page]) != Kind::poisoned || !record.claim(page, PageRecord::vcpu_claim())) continue;
    const Installed poisoned = resolver.poison(page, false, counters);
    if (poisoned.end == Installed::End::refused)
      throw KernelError("preparing the devices' mapping: " + resolver.refusal({page, 1}, poisoned), poisoned.error);
  }
}

}  // namespace

Prepared prepare(const PrepareJob& job) {
  const auto begin = std::chrono::steady_clock::now();
  if (job.devices != nullptr && job.guest.config().poisoned_when_resolved) poison_for_devices(job.guest, *job.devices);
  Prepared prepared = Preparation(job).run();
  prepared.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return prepared;
}

}  // namespace uffd
