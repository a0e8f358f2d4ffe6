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
    if (::madvise(alias.data() + at * page_bytes, (stretch - at) * page_bytes, MADV_POPULATE_WRITE) != 0)
      throw KernelError("populating the guest region", errno, alias.address() + at * page_bytes, (stretch - at) * page_bytes);
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

// The proof: mincore says which pages are in the page cache.
std::uint64_t unprepared(const Guest& guest, const Mapping& alias) {
  const std::uint64_t step = guest.config().page_bytes / kBasePageBytes;
  std::vector<unsigned char> resident(guest.pages() * step);
  if (::mincore(alias.data(), alias.bytes(), resident.data()) != 0)
    throw KernelError("mincore", errno, alias.address(), alias.bytes());
  std::uint64_t wrong = 0;
  for (std::uint64_t page = 0; page < guest.pages(); ++page) wrong += here(guest, page) != ((resident[page * step] & 1) != 0);
  return wrong;
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
    const Mapping alias = Mapping::shared(guest.region_fd(), guest.config().region_bytes);
    if (guest.config().memory == MemoryType::shmem)
      alias.advise(guest.config().transparent_huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE, "madvise for huge pages");
    fill_all(guest, alias);
    filled.unprepared = unprepared(guest, alias);
  }
  filled.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return filled;
}

}  // namespace uffd
