// Installing pages in one mapping: claim a run of pages in the page record, resolve it, and take every partial result,
// EEXIST, EAGAIN and EFAULT for what it is. Used alike by readers (with wake) and by vCPUs after an exit (without).
#pragma once

#include <cstdint>
#include <vector>

#include "guest/counters.hpp"
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
};

class Resolver {
 public:
  Resolver(std::vector<Shard> shards, PageRecord record, MemoryType memory, std::uint64_t page_bytes, std::uint32_t fault_around)
      : shards_(std::move(shards)), record_(record), memory_(memory), page_bytes_(page_bytes), around_(fault_around) {}

  const PageRecord& record() const noexcept { return record_; }

  // EAGAIN lasts as long as somebody changes the address space or leaves a remove event unread; both end, so try on for a
  // while, but not for ever: the watchdog's business begins where this ends.
  static constexpr int kAgainTries = 100'000;
  static constexpr int kOnce = 1;

  /// Takes the page in hand, and of its aligned block as many neighbours as are free. count is 0 when the page is not free.
  PageRun claim(std::uint64_t page, std::uint8_t claim) const noexcept;
  /// Takes `page` and, up to `end`, as many free pages right after it as one call can install. count is 0 when it is not free.
  PageRun claim_onwards(std::uint64_t page, std::uint64_t end, std::uint8_t claim) const noexcept;
  /// Gives a claimed run back as it was.
  void release(const PageRun& run) const noexcept;
  /// Gives back, as it was, what of a claimed run is not in `kept`, a part of it.
  void release_rest(const PageRun& run, const PageRun& kept) const noexcept;
  bool covers(std::uint64_t page) const noexcept;

  /// What installing a run came to: pages this call mapped, and the errno that ended it (0: every page is mapped now).
  struct Installed {
    std::uint32_t pages = 0;
    bool lost = false;  ///< some page was mapped already
    int error = 0;
    std::uint32_t again = 0;  ///< of `pages`, those that had been resolved before and dropped
  };
  /// Installs a claimed run; `from` holds its contents for anonymous memory. Every page of it is `resolved` afterwards, or
  /// given back as it was when the kernel refused for good: EFAULT where the contents are gone, EAGAIN when it was still said
  /// after `again_tries`. Who reads remove events himself must not wait here for them to be read: kOnce.
  Installed install(const PageRun& run, const std::byte* from, bool wake, Counters& counters,
                    int again_tries = kAgainTries) const noexcept;
  /// Installs a page whose record already says resolved: reclaimed, dropped, or never gone (then EEXIST, and woken).
  Installed install_again(std::uint64_t page, const std::byte* from, bool wake, Counters& counters) const noexcept;
  /// Installs a page without a look at the record, which is told: for those who go by EEXIST alone.
  Installed install_blindly(std::uint64_t page, const std::byte* from, Counters& counters) const noexcept;
  /// Poisons a claimed page: whoever touches it gets a memory error. The record says so afterwards, or `unresolved` when the
  /// kernel refused; the errno (0: done).
  int poison(std::uint64_t page, bool wake, Counters& counters) const noexcept;
  void wake(std::uint64_t page, Counters& counters) const noexcept;

 private:
  const Shard& shard_of(std::uint64_t page) const noexcept;
  Outcome map(const Shard& shard, std::uint64_t page, std::uint32_t count, const std::byte* from, bool wake) const noexcept;

  std::vector<Shard> shards_;
  PageRecord record_;
  MemoryType memory_;
  std::uint64_t page_bytes_;
  std::uint32_t around_;
};

}  // namespace uffd
