#include "resolve/fill.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <vector>

#include "kernel/error.hpp"
#include "kernel/thread.hpp"
#include "kernel/vocabulary.hpp"
#include "resolve/poison.hpp"

namespace uffd {

namespace {

/// Whether the page's contents are on this host when the run starts.
bool here(const Guest& guest, std::uint64_t page) {
  return guest.kinds()[page] != static_cast<std::uint8_t>(Kind::absent) && !poisoned_at_source(guest, page);
}

void populate(const Guest& guest, const Mapping& alias, std::uint64_t first, std::uint64_t end) {
  const std::uint64_t page_bytes = guest.config().page_bytes;
  if (::madvise(alias.data() + first * page_bytes, (end - first) * page_bytes, MADV_POPULATE_WRITE) != 0)
    throw KernelError("populating the guest region", errno, alias.address() + first * page_bytes, (end - first) * page_bytes);
}

// Stretches of wanted pages are populated by one call (the kernel's cheapest way to make pages), then written.
void fill_slice(const Guest& guest, const Mapping& alias, std::uint64_t first, std::uint64_t end) {
  const std::uint64_t page_bytes = guest.config().page_bytes;
  for (std::uint64_t at = first; at < end;) {
    if (!here(guest, at)) {
      ++at;
      continue;
    }
    std::uint64_t stretch = at + 1;
    while (stretch < end && here(guest, stretch)) ++stretch;
    populate(guest, alias, at, stretch);
    for (; at < stretch; ++at) {
      guest.contents().fill(at, alias.data() + at * page_bytes);
      guest.claim_fetch(at);
      guest.set_complete(at);
    }
  }
}

void fill_all(const Guest& guest, const Mapping& alias) {
  const std::uint64_t threads =
      std::clamp<std::uint64_t>(guest.pages() / 4096, 1, std::min(4u, std::thread::hardware_concurrency()));
  std::exception_ptr failure;
  std::atomic<bool> failed{false};
  JoinedThreads workers;
  for (std::uint64_t i = 0; i < threads; ++i)
    workers.start("the guest is not filled: its thread " + std::to_string(i), [&, i] {
      try {
        fill_slice(guest, alias, guest.pages() * i / threads, guest.pages() * (i + 1) / threads);
      } catch (...) {
        if (!failed.exchange(true)) failure = std::current_exception();
      }
    });
  workers.join();
  if (failure != nullptr) std::rethrow_exception(failure);
}

/// By page: whether it is in the page cache, by mincore.
std::vector<bool> in_page_cache(const Guest& guest, const Mapping& alias) {
  const std::uint64_t step = guest.config().page_bytes / kBasePageBytes;
  std::vector<unsigned char> resident(guest.pages() * step);
  if (::mincore(alias.data(), alias.bytes(), resident.data()) != 0)
    throw KernelError("mincore", errno, alias.address(), alias.bytes());
  std::vector<bool> cached(guest.pages());
  for (std::uint64_t page = 0; page < guest.pages(); ++page) cached[page] = (resident[page * step] & 1) != 0;
  return cached;
}

/// The proof.
std::uint64_t unprepared(const Guest& guest, const Mapping& alias) {
  const std::vector<bool> cached = in_page_cache(guest, alias);
  std::uint64_t wrong = 0;
  for (std::uint64_t page = 0; page < guest.pages(); ++page) wrong += here(guest, page) != cached[page];
  return wrong;
}

Mapping alias_of(const Guest& guest) {
  Mapping alias = Mapping::shared(guest.region_fd(), guest.config().region_bytes);
  if (guest.config().memory == MemoryType::shmem)
    alias.advise(guest.config().transparent_huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE, "madvise for huge pages");
  return alias;
}

void punch(const Guest& guest, std::uint64_t first, std::uint64_t end) {
  const std::uint64_t page_bytes = guest.config().page_bytes;
  if (::fallocate(guest.region_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(first * page_bytes),
                  static_cast<off_t>((end - first) * page_bytes)) != 0)
    throw KernelError("fallocate FALLOC_FL_PUNCH_HOLE between rounds", errno, first * page_bytes, (end - first) * page_bytes);
  for (std::uint64_t page = first; page < end; ++page) guest.forget(page);
}
}  // namespace

Filled fill(const Guest& guest, std::span<const std::uint8_t> kinds) {
  const auto begin = std::chrono::steady_clock::now();
  if (kinds.size() != guest.pages()) throw ConfigError("kinds must have one entry a page");
  Filled filled;
  for (const std::uint8_t kind : kinds)
    if (kind >= kKindNames.size()) throw ConfigError("a page kind is out of range");
  std::copy(kinds.begin(), kinds.end(), guest.kinds().begin());
  for (std::uint64_t page = 0; page < guest.pages(); ++page) filled.filled += here(guest, page);
  if (guest.region_fd() >= 0) {
    const Mapping alias = alias_of(guest);
    fill_all(guest, alias);
    filled.unprepared = unprepared(guest, alias);
  }
  filled.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return filled;
}

// By stretches of pages that are alike: one call each.
Filled refill(const Guest& guest) {
  Filled filled;
  if (guest.region_fd() < 0) return filled;
  const Mapping alias = alias_of(guest);
  // Of huge pages mincore sees those that this mapping has: their contents stay unless a balloon is at work.
  const bool kept = guest.config().memory == MemoryType::hugetlb && !guest.config().drops;
  const std::vector<bool> cached = in_page_cache(guest, alias);
  enum class Lack { nothing, contents, hole };
  const auto lack = [&](std::uint64_t page) {
    if (here(guest, page)) return cached[page] ? Lack::nothing : Lack::contents;
    return cached[page] || guest.complete(page) ? Lack::hole : Lack::nothing;
  };
  for (std::uint64_t first = 0, end = 0; first < guest.pages(); first = end) {
    const Lack lacks = lack(first);
    for (end = first; end < guest.pages() && lack(end) == lacks;) ++end;
    if (lacks == Lack::hole) punch(guest, first, end);
    if (lacks != Lack::contents) continue;
    if (kept) {
      populate(guest, alias, first, end);
    } else {
      fill_slice(guest, alias, first, end);
      filled.filled += end - first;
    }
  }
  filled.unprepared = unprepared(guest, alias);
  return filled;
}

}  // namespace uffd
