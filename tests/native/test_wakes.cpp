// A thread asleep in userfaultfd whose page another thread has settled must be woken: each case by itself, on the real kernel.
#include "kernel/error.hpp"
#include "server/page_server.hpp"
#include "two_views.hpp"
#include "vmm/vmm.hpp"
#include "whole_guest.hpp"

using namespace uffd;
using namespace two_views;

TEST("a sleeper whose page another thread has poisoned meanwhile is woken, and meets the poison") {
  needs_poison();
  TwoViews scene;
  FaultAnswers answers(scene.server, scene.thread, 0);
  const Sleeper sleeper(scene.view, 3);
  CHECK(scene.peer().resolver().record().claim(3, PageRecord::vcpu_claim()));
  CHECK_EQUAL(scene.peer().resolver().poison(3, false, scene.counters).pages, 1u);
  answers.answer(scene.fault_on(3));
  CHECK(sleeper.ended());
  CHECK_EQUAL(sleeper.error(), EFAULT);
  CHECK_EQUAL(scene.counters[Counter::events_lost], 1u);
}

TEST("a sleeper on a page inside a run that another thread has mapped without a wake is woken with the run") {
  TwoViews scene(8);
  FaultAnswers answers(scene.server, scene.thread, 0);
  const Sleeper sleeper(scene.view, 2);
  CHECK_EQUAL(scene.view.uffd.resume(scene.view.at(2), kWakePage, false).error, 0);
  answers.answer(scene.fault_on(5));
  CHECK(sleeper.ended());
  CHECK_EQUAL(sleeper.error(), 0);
  CHECK_EQUAL(scene.counters[Counter::eexist], 1u);
  CHECK_EQUAL(scene.counters[Counter::events_resolved], 1u);
}

TEST("a sleeper whose page was resolved before and is still mapped is woken") {
  TwoViews scene;
  FaultAnswers answers(scene.server, scene.thread, 0);
  const Sleeper sleeper(scene.view, 4);
  CHECK_EQUAL(scene.view.uffd.resume(scene.view.at(4), kWakePage, false).error, 0);
  CHECK(scene.peer().resolver().record().claim(4, PageRecord::vcpu_claim()));
  CHECK(scene.peer().resolver().install({4, 1}, {.wanted = 4}, scene.counters).lost);  // without a wake: as an exiting vCPU
  CHECK(scene.peer().resolver().record().state(4) == PageState::resolved);
  answers.answer(scene.fault_on(4));
  CHECK(sleeper.ended());
  CHECK_EQUAL(scene.counters[Counter::events_lost], 1u);
}

TEST("a sleeper in another VMM process's mapping is woken when the page is poisoned there") {
  needs_poison();
  TwoViews scene;
  const Sleeper sleeper(scene.other, 6);
  scene.server.poison_in_others(6, scene.counters);
  CHECK(sleeper.ended());
  CHECK_EQUAL(sleeper.error(), EFAULT);
  for (const auto& peer : scene.server.peers) CHECK(peer->resolver().record().state(6) == PageState::poisoned);
}

TEST("a page that is to be poisoned and is mapped already wakes its sleeper, who reads it") {
  needs_poison();
  TwoViews scene;
  const Sleeper sleeper(scene.view, 7);
  CHECK_EQUAL(scene.view.uffd.resume(scene.view.at(7), kWakePage, false).error, 0);
  CHECK(scene.peer().resolver().record().claim(7, PageRecord::reader_claim(0)));
  const Installed poisoned = scene.peer().resolver().poison(7, true, scene.counters);
  CHECK(poisoned.lost);
  CHECK_EQUAL(poisoned.pages, 0u);
  CHECK(scene.peer().resolver().record().state(7) == PageState::unresolved);
  CHECK(sleeper.ended());
  CHECK_EQUAL(sleeper.error(), 0);
}

TEST("a remove event that was put off for a page in flight is in the record when the page server stops before its next look") {
  TwoViews scene;
  FaultAnswers answers(scene.server, scene.thread, 0);
  const PageRecord& record = scene.peer().resolver().record();
  CHECK(record.claim(3, PageRecord::vcpu_claim()));
  answers.discard(scene.peer(), 3);
  CHECK(!answers.none());
  CHECK(record.resolve(3));  // the vCPU is done with it
  CHECK_EQUAL(answers.drop(), 0u);
  CHECK(record.state(3) == PageState::discarded);
  CHECK_EQUAL(scene.counters[Counter::pages_discarded], 1u);
}

namespace {

/// A page server of one mapping with a page record that the test sees, on threads of its own until it goes.
struct ServedMapping {
  Guest guest{{.region_bytes = kPages * kBasePageBytes}};
  Mapping alias = Mapping::shared(guest.region_fd(), kPages* kBasePageBytes);
  Mapping memory = Mapping::shared(guest.region_fd(), kPages* kBasePageBytes);
  Userfaultfd uffd{UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_EVENT_REMOVE};
  Descriptor record_fd = make_memfd("test-record", kPages, false);
  Mapping bytes = Mapping::shared(record_fd.get(), kPages);
  PageRecord record{reinterpret_cast<std::atomic<std::uint8_t>*>(bytes.data())};
  PageServer server;
  std::thread serving;

  ServedMapping() : server(guest, {.readers = 1, .track_removes = true}) {
    for (std::uint64_t page = 0; page < kPages; ++page) {
      guest.contents().fill(page, alias.data() + page * kBasePageBytes);
      guest.claim_fetch(page);
      guest.set_complete(page);
    }
    uffd.register_range(memory.address(), memory.bytes(), UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR);
    server.add(uffd.fd(), {{memory.address(), kPages * kBasePageBytes, 0, kBasePageBytes}}, -1, record_fd.get(), -1);
    serving = std::thread([this] { server.serve(); });
  }
  ~ServedMapping() {
    stop();
    uffd.unregister_range(memory.address(), memory.bytes());
  }
  /// Its counters may be read afterwards.
  void stop() {
    server.stop();
    if (serving.joinable()) serving.join();
  }
  std::uint32_t answering() const { return guest.header().answering[0].readers.load(); }
};

template <typename Condition>
bool soon(const Condition& condition) {
  for (int i = 0; i < 10'000; ++i, ::usleep(1000))
    if (condition()) return true;  // it may not hold for long
  return false;
}

}  // namespace

TEST("a reader that has put an answer off counts as answering until it is given: the next round does not begin before") {
  ServedMapping served;
  CHECK(served.record.claim(3, PageRecord::vcpu_claim()));
  std::uint64_t word = 0;
  std::thread sleeper([&] { word = *reinterpret_cast<volatile std::uint64_t*>(served.memory.data() + 3 * kBasePageBytes); });
  const bool began = soon([&] { return served.answering() == 1; });
  bool kept = true;
  for (int i = 0; i < 50; ++i, ::usleep(1000)) kept &= served.answering() == 1;
  CHECK(served.record.release(3));  // the vCPU gives the page up: it is the reader's
  sleeper.join();
  const bool ended = soon([&] { return served.answering() == 0; });
  CHECK(began);
  CHECK(kept);
  CHECK(ended);
  served.stop();
  CHECK(served.server.counters()[Counter::deferred] > 0);
  CHECK_EQUAL(word, Contents::word(served.guest.contents().base(3), 0));
}

TEST("a reader says before it reads that it may have remove events to mark, and afterwards that it has marked them") {
  ServedMapping served;
  const std::atomic<std::uint32_t>& marking = served.guest.marking()[0];
  CHECK(soon([&] { return marking.load() % 2 == 0; }));
  CHECK(served.record.resolve_unasked(5));
  const std::uint32_t before = marking.load();
  ::madvise(served.memory.data() + 5 * kBasePageBytes, kBasePageBytes, MADV_DONTNEED);  // returns when the event has been read
  CHECK(soon([&] { return served.record.state(5) == PageState::discarded && marking.load() % 2 == 0; }));
  CHECK(marking.load() >= before + 2);
}

TEST("a drop over two regions of one mapping is marked in both, at each one's pages") {
  constexpr std::uint64_t half = kWakePages / 2;
  const Guest guest({.region_bytes = kWakePages * kWakePage});
  const Mapping memory = Mapping::shared(guest.region_fd(), kWakePages * kWakePage);
  Userfaultfd uffd(UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_EVENT_REMOVE);
  uffd.register_range(memory.address(), memory.bytes(), UFFDIO_REGISTER_MODE_MISSING);
  const Descriptor record_fd = make_memfd("test-record", kWakePages, false);
  const Mapping bytes = Mapping::shared(record_fd.get(), kWakePages);
  const PageRecord record(reinterpret_cast<std::atomic<std::uint8_t>*>(bytes.data()));
  for (std::uint64_t page = 0; page < kWakePages; ++page) CHECK(record.resolve_unasked(page));
  PageServer server(guest, {.track_removes = true});
  const std::uint64_t first = memory.address(), second = first + half * kWakePage;  // the second half of the guest lies first
  server.add(uffd.fd(), {{first, half * kWakePage, half * kWakePage, kWakePage}, {second, half * kWakePage, 0, kWakePage}}, -1,
             record_fd.get(), -1);
  std::thread serving([&] { server.serve(); });
  ::madvise(memory.data() + (half - 2) * kWakePage, 3 * kWakePage, MADV_DONTNEED);
  const bool marked = soon([&] { return guest.marking()[0].load() % 2 == 0 && record.state(0) == PageState::discarded; });
  server.stop();
  serving.join();
  CHECK(marked);
  for (std::uint64_t page = 0; page < kWakePages; ++page) {
    const bool dropped = page == 0 || page == kWakePages - 1 || page == kWakePages - 2;
    CHECK(record.state(page) == (dropped ? PageState::discarded : PageState::resolved));
  }
}

TEST("what a reader throws is raised by serve, and ends the run by the reader's name") {
  const Guest guest({.region_bytes = kWakePages * kWakePage});
  const View view(guest);
  PageServer server(guest, {.readers = 2, .reader_cpus = {{}, {1000}}});  // a ring runs where reader 0 does
  server.add(view.uffd.fd(), {{view.memory.address(), kWakePages * kWakePage, 0, kWakePage}}, -1, -1, -1);
  std::string raised;
  std::thread serving([&] {
    try {
      server.serve();
    } catch (const KernelError& error) {
      raised = error.what();
    }
  });
  for (int i = 0; i < 5000 && !guest.stopping(); ++i) ::usleep(1000);
  server.stop();
  serving.join();
  CHECK_EQUAL(raised.find("sched_setaffinity: "), 0u);
  CHECK_EQUAL(guest.stop_reason(), "page server: reader 1: " + raised);
}

TEST("a page that was discarded and is claimed by a killed page server is given back by the takeover") {
  const Guest guest({.region_bytes = kWakePages * kWakePage});
  Vmm vmm(guest, {.strategy = "uffd_wait"});
  const Mapping bytes = Mapping::shared(vmm.record_fd(), kWakePages);
  const PageRecord record(reinterpret_cast<std::atomic<std::uint8_t>*>(bytes.data()));
  CHECK(record.claim(1, PageRecord::reader_claim(0)));
  CHECK(record.resolve_unasked(2));
  CHECK(record.discard(2));
  CHECK(record.claim(2, PageRecord::reader_claim(0)));
  CHECK(record.claim(3, PageRecord::reader_claim(1)));  // the successor's own
  CHECK(record.claim(4, PageRecord::vcpu_claim()));
  CHECK_EQUAL(vmm.reclaim(), 2u);
  CHECK(record.state(1) == PageState::unresolved);
  CHECK(record.state(2) == PageState::discarded);
  CHECK(record.state(3) == PageState::in_flight);
  CHECK(record.state(4) == PageState::in_flight);
}

TEST("a page that is gone waits for every reader that marks removes: readers whose numbers differ by 256 too") {
  const Guest guest({.region_bytes = kWakePages * kWakePage, .server_threads = 600});
  const auto marking = guest.marking();
  CHECK_EQUAL(marking.size(), 600u);
  marking[44].fetch_add(1);
  marking[300].fetch_add(1);
  std::atomic<bool> waited{false};
  std::thread waiter([&] {
    guest.wait_for_removes();
    waited.store(true);
  });
  ::usleep(50'000);
  const bool early = waited.load();
  marking[44].fetch_add(1);
  ::usleep(50'000);
  const bool half_way = waited.load();
  marking[300].fetch_add(1);
  waiter.join();
  CHECK(!early);
  CHECK(!half_way);
}

TEST("more readers than the guest has words for are refused") {
  const Guest guest({.region_bytes = kWakePages * kWakePage});
  std::string text;
  try {
    const PageServer server(guest, {.readers = 65});
  } catch (const ConfigError& error) {
    text = error.what();
  }
  CHECK_EQUAL(text, "page_server.readers is 65 and the guest was made for at most 64");
}
