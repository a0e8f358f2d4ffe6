// Installing pages in one mapping: claim a run of pages in the page record, then install it. Every resolve of the core goes
// through Resolver::install (or poison), and its answer has the meaning of the kernel's errno.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "guest/counters.hpp"
#include "guest/guest.hpp"
#include "guest/page_record.hpp"
#include "guest/page_run.hpp"
#include "kernel/mapping.hpp"
#include "kernel/userfaultfd.hpp"

namespace uffd {

/// One stretch of guest memory as its VMM process sees it, and the userfaultfd that covers it.
struct Shard {
  const Userfaultfd* uffd = nullptr;
  std::uint64_t address = 0;  ///< in the registering process
  std::uint64_t first_page = 0;
  std::uint64_t pages = 0;
  std::uint32_t unit = 1;  ///< guest pages that the kernel maps at once: of a VMM with regions of huge pages beside small ones

  std::uint64_t unit_of(std::uint64_t page) const noexcept { return page - (page - first_page) % unit; }
};

/// The page record's state of pages that are to be installed.
enum class Known {
  claimed,          ///< the caller has claimed them
  resolved_before,  ///< resolved: reclaimed, dropped, or still mapped (then EEXIST)
  not_asked,        ///< the caller goes by EEXIST alone; the record is set to resolved
};

/// How to install a run.
struct Install {
  std::uint64_t wanted = 0;         ///< the page of the run that was touched
  const std::byte* from = nullptr;  ///< contents of the run, for anonymous memory
  bool wake = false;
  bool enter_stage2 = false;  ///< of claimed pages: the emulated stage-2 table maps them, too
  Known known = Known::claimed;
  int tries = 0;      ///< how often EAGAIN is answered by another try; 0: kTries
  bool zero = false;  ///< zeros, whatever the memory: by UFFDIO_ZEROPAGE
};

/// How installing ended. Callers act on `end`; `error` is for the text of a refusal.
struct Installed {
  enum class End {
    mapped,    ///< every page of the run is mapped now, by this call or by another thread's
    changing,  ///< EAGAIN: a remove event is unread or the address space is changing. Try again later
    gone,      ///< EFAULT where pages are dropped: the contents must be fetched again
    vanished,  ///< ESRCH: the registering process has ended
    refused,   ///< ENOMEM, ENOSPC, ENOENT or another errno: the run cannot go on
  };
  End end = End::mapped;
  std::uint32_t pages = 0;    ///< mapped by this call
  std::uint32_t settled = 0;  ///< of the run, from its start: mapped, by whichever thread
  std::uint32_t again = 0;    ///< of them, those that had been resolved before and dropped
  std::uint32_t first = 0;    ///< of them, those that no mapping of the guest had resolved before
  bool lost = false;          ///< some page was mapped already
  bool wanted = false;        ///< the wanted page was mapped by this call
  int error = 0;
  const char* call = "";  ///< the ioctl that failed with `error`
};

class Resolver {
 public:
  /// `fault_around`: pages of an aligned block that are claimed together. `shared`: where vCPUs wait
  /// for pages that are settled here, and where pages are counted once for all mappings; null: nowhere.
  Resolver(std::vector<Shard> shards, PageRecord record, const GuestConfig& guest, std::uint32_t fault_around,
           const Guest* shared = nullptr);

  const PageRecord& record() const noexcept { return record_; }

  /// EAGAIN ends with the change that causes it: a dropper's event is read, an mmap is done. The watchdog takes over after this.
  static constexpr int kTries = 100'000;
  /// For a thread that itself reads remove events: it must not wait for them.
  static constexpr int kOnce = 1;

  /// The pages that the kernel maps together with a page, which it is the first of or among.
  PageRun unit_of(std::uint64_t page) const noexcept {
    if (!units_) return {page, 1};
    const Shard& shard = shard_of(page);
    return {shard.unit_of(page), shard.unit};
  }
  /// Claims the page, and of its aligned block the free pages next to it; of a larger unit that alone. count is 0 when the page
  /// is not free.
  PageRun claim(std::uint64_t page, std::uint8_t claim) const noexcept;
  /// Claims `page` and, up to `end`, the free pages right after it that one call can install; of a larger unit, which `page` is
  /// the first of, that alone. count is 0 when it is not free.
  PageRun claim_onwards(std::uint64_t page, std::uint64_t end, std::uint8_t claim) const noexcept;
  /// Gives a claimed run back as it was.
  void release(const PageRun& run) const noexcept;
  /// Gives back, as it was, what of a claimed run is not in `kept`, a part of it.
  void release_rest(const PageRun& run, const PageRun& kept) const noexcept;
  bool covers(std::uint64_t page) const noexcept;

  /// Installs a run. Claimed pages are `resolved` afterwards, or given back as they were unless `end` is `mapped`. A page that
  /// was resolved before and whose contents are gone becomes `discarded`.
  Installed install(const PageRun& run, const Install& how, Counters& counters) const noexcept;
  /// Poisons a claimed page: an access to it gets a memory error. pages is 1 when this call did it; `lost` when the page was
  /// mapped already (then its sleepers are woken). The record is `poisoned`, or as it was before the claim.
  Installed poison(std::uint64_t page, bool wake, Counters& counters, int most_tries = kTries) const noexcept;
  void wake(std::uint64_t page, Counters& counters) const noexcept;
  /// Why the kernel refused to install the run: call, page, bytes, address, errno, and what to do.
  std::string refusal(const PageRun& run, const Installed& installed) const;

 private:
  const Shard& shard_of(std::uint64_t page) const noexcept;
  std::uint64_t address_of(const Shard& shard, std::uint64_t page) const noexcept {
    return shard.address + (page - shard.first_page) * page_bytes_;
  }
  void settled(const PageRun& run) const noexcept {
    if (shared_ != nullptr) shared_->header().page_waiters.settled(run);
  }
  Outcome map(const Shard& shard, std::uint64_t page, std::uint32_t count, const std::byte* from,
              const Install& how) const noexcept;
  Installed::End end_of(int error, Counters& counters) const noexcept;
  void settle_mapped(const PageRun& part, const Install& how, Installed& installed) const noexcept;
  void settle_lost(const PageRun& unit, const Install& how, Installed& installed, Counters& counters) const noexcept;
  PageRun claim_unit(const PageRun& unit, std::uint8_t claim) const noexcept;
  void settle_rest(const PageRun& rest, Known known, Installed::End end) const noexcept;

  std::vector<Shard> shards_;  ///< by first page; at least one
  double shards_per_page_ = 0.0;
  PageRecord record_;
  MemoryType memory_;
  std::uint64_t page_bytes_;
  std::uint32_t around_;
  bool units_ = false;  ///< some shard has units of several pages
  const Guest* shared_;
  bool drops_;  ///< resolved pages may be taken away again
};

}  // namespace uffd
