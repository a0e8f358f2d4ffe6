// How long paging out goes on where the kernel does not take the pages: they are locked in a mapping beside.
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "check.hpp"
#include "resolve/fill.hpp"
#include "vmm/prepare.hpp"
#include "whole_guest.hpp"

using namespace uffd;

namespace {

constexpr std::uint64_t kLockedPages = 256;
constexpr std::chrono::milliseconds kWithoutProgress{300}, kLongest{600}, kBetweenDrops{20};

struct LockedGuest {
  Guest guest{{.region_bytes = kLockedPages * kBasePageBytes}};
  Mapping locked = Mapping::shared(guest.region_fd(), kLockedPages* kBasePageBytes);
  Mapping region = Mapping::shared(guest.region_fd(), kLockedPages* kBasePageBytes);
  std::atomic<std::uint8_t> bytes[kLockedPages] = {};
  Resolver resolver{{{nullptr, region.address(), 0, kLockedPages}}, PageRecord(bytes), guest.config(), 1};
  std::chrono::steady_clock::duration took{};

  LockedGuest() {
    fill(guest, std::vector<std::uint8_t>(kLockedPages, static_cast<std::uint8_t>(Kind::swapped)));
    // By syscall(), for under a sanitizer mlock() does nothing.
    CHECK_EQUAL(::syscall(SYS_mlock, locked.data(), locked.bytes()), 0);
  }
  Prepared page_out(const PageoutBounds& bounds) {
    const auto began = std::chrono::steady_clock::now();
    const Prepared prepared = prepare({guest, region, resolver, false, false, true, nullptr, false, bounds});
    took = std::chrono::steady_clock::now() - began;
    return prepared;
  }
};

}  // namespace

TEST("pages that the kernel does not page out are left after the time without progress, and counted as unprepared") {
  LockedGuest one;
  const Prepared prepared = one.page_out({.without_progress = kWithoutProgress, .longest = std::chrono::hours(1)});
  CHECK_EQUAL(prepared.unprepared, kLockedPages);
  CHECK(one.took >= kWithoutProgress);
}

TEST("paging out ends after its longest time, however slow the progress") {
  LockedGuest one;
  std::atomic<bool> over = false;
  std::thread slow([&] {  // a page leaves the page cache now and then, as one does that is paged out
    for (std::uint64_t page = 0; page < kLockedPages && !over; ++page) {
      std::this_thread::sleep_for(kBetweenDrops);
      ::fallocate(one.guest.region_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(page * kBasePageBytes),
                  kBasePageBytes);
    }
  });
  const Prepared prepared = one.page_out({.without_progress = std::chrono::hours(1), .longest = kLongest});
  over = true;
  slow.join();
  CHECK(prepared.unprepared > 0);
  CHECK(prepared.unprepared < kLockedPages);
  CHECK(one.took >= kLongest);
}
