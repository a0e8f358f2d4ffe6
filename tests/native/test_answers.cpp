// What a reader does with a fault whose block comes in parts, whose page another thread is at, and with faults put off.
#include <fcntl.h>
#include <poll.h>

#include <set>

#include "two_views.hpp"
#include "whole_guest.hpp"

using namespace uffd;
using namespace two_views;

namespace {

void punch(const Guest& guest, std::uint64_t page) {
  CHECK_EQUAL(
      ::fallocate(guest.region_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(page * kWakePage), kWakePage),
      0);
}

}  // namespace

TEST("a block that comes in parts is given back whole when the page that was touched has gone") {
  TwoViews scene({.fault_around_pages = 8, .wake_first = true}, true);
  FaultAnswers answers(scene.server, scene.thread, 0);
  punch(scene.guest, 5);
  answers.answer(scene.fault_on(5));
  for (std::uint64_t page = 0; page < 8; ++page) CHECK(scene.peer().resolver().record().state(page) == PageState::unresolved);
  CHECK(!scene.guest.complete(5));
  CHECK_EQUAL(scene.counters[Counter::contents_lost], 1u);
  answers.run_all();  // it is fetched again
  CHECK(scene.guest.complete(5));
  CHECK_EQUAL(scene.counters[Counter::events_resolved], 1u);
}

TEST("a block that comes in parts is installed but for the part with a neighbour that has gone") {
  TwoViews scene({.fault_around_pages = 8, .wake_first = true}, true);
  FaultAnswers answers(scene.server, scene.thread, 0);
  punch(scene.guest, 2);
  answers.answer(scene.fault_on(5));
  const PageRecord& record = scene.peer().resolver().record();
  for (const std::uint64_t page : {0u, 1u, 5u, 6u, 7u}) CHECK(record.state(page) == PageState::resolved);
  for (const std::uint64_t page : {2u, 3u, 4u}) CHECK(record.state(page) == PageState::unresolved);
  CHECK_EQUAL(scene.counters[Counter::events_resolved], 1u);
}

TEST("a fault on a page that is said to be resolved waits until the remove event that was read is marked") {
  TwoViews scene({.track_removes = true});
  FaultAnswers answers(scene.server, scene.thread, 0);
  const PageRecord& record = scene.peer().resolver().record();
  CHECK(record.resolve_unasked(3));
  scene.guest.marking()[1].fetch_add(1);  // another reader is about to read
  std::atomic<bool> answered{false};
  std::thread answering([&] {
    answers.answer(scene.fault_on(3));
    answered.store(true);
  });
  ::usleep(50'000);
  const bool early = answered.load();
  CHECK(record.discard(3));
  scene.guest.marking()[1].fetch_add(1);
  answering.join();
  CHECK(!early);
  CHECK_EQUAL(scene.counters[Counter::deferred], 1u);
  CHECK_EQUAL(scene.counters[Counter::resolved_again], 0u);
}

TEST(
    "a page that is said to be resolved is not mapped while its contents are brought again: another mapping's balloon removed "
    "it") {
  TwoViews scene(PageServerConfig{}, true);
  FaultAnswers answers(scene.server, scene.thread, 0);
  const PageRecord& record = scene.peer().resolver().record();
  CHECK(record.resolve_unasked(3));
  scene.guest.forget(3);
  CHECK(scene.guest.claim_fetch(3));  // by another thread, which has written half of it
  std::byte* const contents = scene.alias.data() + 3 * kWakePage;
  std::memset(contents + kWakePage / 2, 0, kWakePage / 2);
  answers.answer(scene.fault_on(3));
  answers.run_all();
  CHECK(record.state(3) == PageState::in_flight);
  CHECK_EQUAL(scene.counters[Counter::resolved_again], 0u);
  scene.guest.contents().fill(3, contents);
  scene.guest.set_complete(3);
  while (record.state(3) == PageState::in_flight) answers.run_all();
  CHECK(record.state(3) == PageState::resolved);
  std::uint64_t first = 0;
  CHECK_EQUAL(scene.guest.contents().wrong_words(3, scene.view.memory.data() + 3 * kWakePage, first), 0u);
}

TEST("poisoning waits for no remove event that is unread: its reader may be the one that poisons") {
  needs_poison();
  for (const bool own : {true, false}) {
    TwoViews scene;
    FaultAnswers answers(scene.server, scene.thread, 0);
    scene.guest.kinds()[3] = static_cast<std::uint8_t>(Kind::poisoned);
    scene.guest.forget(3);
    const View& changing = own ? scene.view : scene.other;
    std::thread dropper([&] { ::madvise(changing.memory.data() + 9 * kWakePage, kWakePage, MADV_DONTNEED); });
    pollfd unread{changing.uffd.fd(), POLLIN, 0};
    const bool announced = ::poll(&unread, 1, 10'000) == 1;
    answers.answer(scene.fault_on(3));
    const std::uint64_t tried = scene.counters[Counter::eagain_changing], poisoned = scene.counters[Counter::pages_poisoned];
    uffd_msg message;
    const bool read = ::read(changing.uffd.fd(), &message, sizeof message) == sizeof message;
    dropper.join();
    CHECK(announced && read);
    CHECK_EQUAL(tried, 1u);
    CHECK_EQUAL(poisoned, own ? 0u : 1u);
    answers.run_all();  // the answer that was put off
    CHECK(scene.peer().resolver().record().state(3) == PageState::poisoned);
    CHECK(scene.server.peers[1]->resolver().record().state(3) == (own ? PageState::poisoned : PageState::unresolved));
    CHECK_EQUAL(scene.counters[Counter::events_poisoned], 1u);
  }
}

TEST("every userfaultfd has a reader and every reader a userfaultfd, be they more or fewer") {
  const TwoViews scene;
  for (std::uint32_t readers = 1; readers <= 7; ++readers) {
    ServerState server(scene.guest, {.readers = readers}, readers);
    for (int i = 0; i < 3; ++i)
      server.peers.push_back(std::make_unique<Peer>(
          scene.guest, scene.view.uffd.fd(),
          std::vector<RegionView>{{scene.view.memory.address(), kWakePages * kWakePage, 0, kWakePage}}, -1, -1, -1, 1));
    std::multiset<const Peer*> read;
    for (std::uint32_t reader = 0; reader < readers; ++reader) {
      const std::vector<Peer*> mine = server.peers_of(reader);
      CHECK(!mine.empty());
      read.insert(mine.begin(), mine.end());
    }
    for (const auto& peer : server.peers) CHECK(read.count(peer.get()) != 0);
    CHECK_EQUAL(read.size(), std::max<std::size_t>(readers, 3));
  }
}

TEST("an answer that is due is given though the reader has something else to do much later") {
  GuestPlan plan;
  plan.vmm.strategy = "uffd_wait";
  plan.kind = Kind::absent;
  plan.guest.region_bytes = 16 * 4096;
  plan.vmm.watchdog_s = 10.0;
  plan.server.delay_us = 100;
  plan.server.inject.wake_every_ms = 3.6e6;
  const auto result = run_guest(plan);
  CHECK_EQUAL(result->stop_reason, "");
  CHECK_EQUAL(result->pages_resolved, 16u);
}

TEST("a record is a fault's if its vCPU names it, it is of this VMM process, and of this page") {
  const Guest guest({.region_bytes = kWakePages * kWakePage, .vcpus = 4, .vcpus_per_vmm = 2});
  const View view(guest);
  constexpr std::uint64_t slots = 3;
  const Descriptor faults_fd = make_memfd("test-faults", 2 * slots * sizeof(FaultRecord), false);
  const Mapping bytes = Mapping::shared(faults_fd.get(), 2 * slots * sizeof(FaultRecord));
  auto* records = reinterpret_cast<FaultRecord*>(bytes.data());
  Peer peer(guest, view.uffd.fd(), {{view.memory.address(), kWakePages * kWakePage, 0, kWakePage}}, 1, -1, faults_fd.get(), 1);
  records[slots + 1].page.store(7);
  guest.vcpu(3).slot.store(1);
  guest.vcpu(1).slot.store(1);
  CHECK_EQUAL(peer.slots_per_vcpu(), slots);
  CHECK(peer.record_of(3, 7) == peer.faults() + slots + 1);
  CHECK(peer.record_of(3, 8) == nullptr);
  CHECK(peer.record_of(1, 7) == nullptr);
  guest.vcpu(3).slot.store(slots);
  CHECK(peer.record_of(3, 7) == nullptr);
}
