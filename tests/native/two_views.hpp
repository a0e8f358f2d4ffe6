// Two mappings of a guest's region in sleeping mode, with the page server's side of both and no thread of it; and threads asleep
// on their pages.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <thread>

#include "check.hpp"
#include "server/fault_answers.hpp"

namespace two_views {

using namespace uffd;

constexpr std::uint64_t kWakePage = kBasePageBytes;
constexpr std::uint64_t kWakePages = 16;

/// One mapping of a guest's region in sleeping mode.
struct View {
  Mapping memory;
  Userfaultfd uffd{UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE};

  explicit View(const Guest& guest) : memory(Mapping::shared(guest.region_fd(), kWakePages * kWakePage)) {
    uffd.register_range(memory.address(), memory.bytes(), UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR);
  }
  std::uint64_t at(std::uint64_t page) const { return memory.address() + page * kWakePage; }
};

/// A thread asleep on a page, in a system call: `error` is how the call ended once it is woken.
class Sleeper {
 public:
  Sleeper(const View& view, std::uint64_t page) : view_(view) {
    CHECK_EQUAL(::pipe(pipe_), 0);
    thread_ = std::thread([this, at = view.memory.data() + page * kWakePage] {
      error_.store(::write(pipe_[1], at, 1) == 1 ? 0 : errno);
      ended_.store(true);
    });
    uffd_msg message{};
    while (::read(view.uffd.fd(), &message, sizeof message) != sizeof message) ::usleep(100);  // it sleeps, and is forgotten
  }
  ~Sleeper() {
    view_.uffd.unregister_range(view_.memory.address(), view_.memory.bytes());  // wakes it, whatever the test found
    thread_.join();
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }
  bool ended() const {
    for (int i = 0; i < 5000 && !ended_.load(); ++i) ::usleep(1000);
    return ended_.load();
  }
  int error() const { return error_.load(); }

 private:
  const View& view_;
  int pipe_[2] = {};
  std::atomic<bool> ended_{false};
  std::atomic<int> error_{0};
  std::thread thread_;
};

struct TwoViews {
  Guest guest;
  Mapping alias = Mapping::shared(guest.region_fd(), kWakePages* kWakePage);
  View view{guest}, other{guest};
  ServerState server;
  Counters counters;
  ThreadInfo thread{.counters = &counters};

  explicit TwoViews(std::uint32_t around = 1) : TwoViews(PageServerConfig{.fault_around_pages = around}) {}
  explicit TwoViews(const PageServerConfig& config, bool drops = false)
      : guest({.region_bytes = kWakePages * kWakePage, .vcpus = 2, .vcpus_per_vmm = 1, .drops = drops}),
        server(guest, config, 1) {
    for (std::uint64_t page = 0; page < kWakePages; ++page) {
      guest.contents().fill(page, alias.data() + page * kWakePage);
      guest.claim_fetch(page);
      guest.set_complete(page);
    }
    for (const View* one : {&view, &other})
      server.peers.push_back(std::make_unique<Peer>(
          guest, one->uffd.fd(), std::vector<RegionView>{{one->memory.address(), kWakePages * kWakePage, 0, kWakePage}}, -1, -1,
          -1, config.fault_around_pages));
  }
  Peer& peer() { return *server.peers[0]; }
  Request fault_on(std::uint64_t page) { return {.page = page, .peer = &peer(), .minor = true}; }
};

}  // namespace two_views
