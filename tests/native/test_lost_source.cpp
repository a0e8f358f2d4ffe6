// A source whose connection breaks, that answers late, wrong or not at all, and its other peers.
#include "remote_source.hpp"

using namespace uffd;
using namespace remote_source;

TEST("frames that arrive in small pieces are put together") {
  OddSource source([](int fd, int, int stop) {
    tcp::Inbox inbox(1 << 16);
    OddSource::greet(fd, stop, inbox);
    for (;;) {
      const wire::Header asked = OddSource::next(fd, stop, inbox);
      const Contents contents(kSeed, 4096);
      std::vector<std::byte> bytes(sizeof(wire::Header) + 4096);
      const wire::Header header = wire::header(wire::FrameType::pages, 4096, 1, asked.id, asked.first);
      std::memcpy(bytes.data(), &header, sizeof header);
      contents.fill(asked.first, bytes.data() + sizeof header);
      for (std::size_t at = 0; at < bytes.size(); at += 1499) {
        std::array parts{iovec{bytes.data() + at, std::min<std::size_t>(1499, bytes.size() - at)}};
        tcp::send_all(fd, parts, stop, kNanosecondsPerSecond);
      }
    }
  });
  GuestPlan plan = fed_plan("uffd_wait", source.port());
  check_right(*run_guest(plan));
}

TEST("a connection that ends half way through a page is made anew, and the page asked for again") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait"}) {
    OddSource source([](int fd, int number, int stop) {
      tcp::Inbox inbox(1 << 16);
      OddSource::greet(fd, stop, inbox);
      for (int answered = 0;; ++answered) {
        const wire::Header asked = OddSource::next(fd, stop, inbox);
        if (number < 3 && answered == 100) {
          OddSource::send(fd, stop, wire::header(wire::FrameType::pages, 4096, 1, asked.id, asked.first), 4096, 32 + 2000);
          return;
        }
        OddSource::answer(fd, stop, asked);
      }
    });
    const auto result = run_guest(fed_plan(strategy, source.port()));
    check_right(*result);
    CHECK(result->source.retries >= 3);
    CHECK_EQUAL(result->source.on_demand, kPages);
  }
}

TEST("an answer that comes twice is used once") {
  OddSource source([](int fd, int, int stop) {
    tcp::Inbox inbox(1 << 16);
    OddSource::greet(fd, stop, inbox);
    for (;;) {
      const wire::Header asked = OddSource::next(fd, stop, inbox);
      OddSource::answer(fd, stop, asked);
      OddSource::answer(fd, stop, asked);
    }
  });
  const auto result = run_guest(fed_plan("uffd_wait", source.port()));
  check_right(*result);
  CHECK_EQUAL(result->source.on_demand, kPages);
  CHECK(result->source.twice >= kPages - 2);  // the last ones may be still on their way at the end
}

TEST("a source that stops answering is asked again, and then the run fails by its name in the time it was given") {
  for (const char* strategy : {"uffd_wait", "no_slow_gup"}) {
    OddSource source([](int fd, int, int stop) {
      tcp::Inbox inbox(1 << 16);
      OddSource::greet(fd, stop, inbox);
      for (int answered = 0; answered < 200; ++answered) OddSource::answer(fd, stop, OddSource::next(fd, stop, inbox));
      for (;;) OddSource::next(fd, stop, inbox);
    });
    // Every new connection answers 200 requests again, so this source is slow rather than gone, until the guest is through.
    // Under a sanitizer on a busy machine many an answer is late that was not meant to be.
    GuestPlan plan = impatient(strategy, source.port());
    plan.server.source.remote.retries = 50;
    const auto result = run_guest(plan);
    check_right(*result);
    CHECK(result->source.retries > 0);
  }
  OddSource mute([](int fd, int number, int stop) {
    tcp::Inbox inbox(1 << 16);
    OddSource::greet(fd, stop, inbox);
    for (int answered = 0; number == 0 && answered < 50; ++answered)
      OddSource::answer(fd, stop, OddSource::next(fd, stop, inbox));
    for (;;) OddSource::next(fd, stop, inbox);
  });
  std::unique_ptr<GuestResult> result;
  const double took = seconds_of([&] { result = run_guest(impatient("uffd_wait", mute.port())); });
  CHECK(result->stop_reason.find("the source at 127.0.0.1:") == 0);
  CHECK(result->stop_reason.find("sent nothing that was asked for in ") != std::string::npos);
  CHECK(result->stop_reason.find("2 retries (last: it did not ") != std::string::npos);
  CHECK(took < 15.0);
}

TEST("a source that is gone fails the run by its name, with and without a push") {
  for (const bool push : {false, true}) {
    auto source = std::make_unique<SourceServer>(held_memory());
    GuestPlan plan = impatient("no_uffd_wait", source->port());
    plan.server.source.remote.push = push;
    plan.server.source.remote.push_mib_per_s = 1.0 / static_cast<double>(slowness());
    plan.vmm.access.rate_per_s = 500;
    std::atomic<bool> over{false};
    std::thread killer([&source, &over] {
      while (source->served().requests < 100 && !over) ::usleep(1000);
      source.reset();
    });
    const auto result = run_guest(plan);
    over = true;
    killer.join();
    CHECK(result->stop_reason.find("the source at 127.0.0.1:") == 0);
    CHECK(result->stop_reason.find("onnect") != std::string::npos);  // closed the connection, or connection refused
    CHECK_EQUAL(result->wrong_words, 0u);
  }
}

TEST("a source that is gone fails the run though nothing is asked of it") {
  auto source = std::make_unique<SourceServer>(held_memory());
  const Guest guest({.region_bytes = kPages * 4096, .contents_seed = kSeed});
  const Mapping alias = Mapping::shared(guest.region_fd(), kPages * 4096);
  RemoteSource remote(guest, alias.data(), {.host = "127.0.0.1", .port = source->port(), .timeout_s = 0.1, .retries = 1});
  remote.start();
  source.reset();
  for (int i = 0; i < 10'000 && !guest.stopping(); ++i) ::usleep(1000);
  remote.stop();
  CHECK(guest.stop_reason().find("the source at 127.0.0.1:") == 0);
}

TEST("a push whose connection is lost is asked for again on the next one") {
  std::atomic<int> asked{0};
  OddSource source([&asked](int fd, int, int stop) {
    tcp::Inbox inbox(1 << 16);
    OddSource::greet(fd, stop, inbox);
    OddSource::next(fd, stop, inbox);  // a push: nothing else is asked for
    if (asked.fetch_add(1) != 0) OddSource::next(fd, stop, inbox);
  });
  const Guest guest({.region_bytes = kPages * 4096, .contents_seed = kSeed});
  const Mapping alias = Mapping::shared(guest.region_fd(), kPages * 4096);
  RemoteSource remote(guest, alias.data(), {.host = "127.0.0.1", .port = source.port(), .push = true, .timeout_s = 20.0});
  guest.release(0, 1);
  remote.start();
  for (int i = 0; i < 10'000 && asked.load() < 2; ++i) ::usleep(1000);
  remote.stop();
  CHECK_EQUAL(asked.load(), 2);
}

TEST("a source that comes back in time is used again") {
  for (const char* strategy : {"uffd_wait", "no_uffd_wait"}) {
    auto source = std::make_unique<SourceServer>(held_memory());
    const std::uint16_t port = source->port();
    GuestPlan plan = fed_plan(strategy, port);
    plan.server.source.remote.push = true;
    plan.server.source.remote.push_mib_per_s = 1.0 / static_cast<double>(slowness());
    plan.vmm.access.rate_per_s = 1500;
    std::atomic<bool> over{false};
    std::thread killer([&] {
      while (source->served().requests < 100 && !over) ::usleep(1000);
      source.reset();
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      source = std::make_unique<SourceServer>(held_memory(0.0, port));
    });
    const auto result = run_guest(plan);
    over = true;
    killer.join();
    check_right(*result);
    CHECK_EQUAL(result->source.pushed + result->source.on_demand, kPages);
  }
}

TEST("a source that talks nonsense is taken for lost, and named with what was wrong") {
  OddSource source([](int fd, int, int stop) {
    tcp::Inbox inbox(1 << 16);
    OddSource::greet(fd, stop, inbox);
    OddSource::next(fd, stop, inbox);
    OddSource::send(fd, stop, wire::header(wire::FrameType::pages, 4096, 1, 1, 5000));
    OddSource::next(fd, stop, inbox);
  });
  GuestPlan plan = impatient("uffd_wait", source.port());
  plan.server.source.remote.timeout_s = 1.0;  // else it may be lost for an answer that is late on a busy machine
  const auto result = run_guest(plan);
  CHECK(result->stop_reason.find("(last: pages outside the region)") != std::string::npos);
}

TEST("a source serves on whatever its other peers send") {
  SourceServer source(held_memory());
  std::vector<Descriptor> peers;
  const Descriptor stop(::eventfd(0, EFD_CLOEXEC));
  const auto send = [&](std::vector<std::byte> bytes) {
    peers.push_back(tcp::connect_to(tcp::resolve("127.0.0.1", source.port(), false), stop.get(), ~0ull));
    (void)!::send(peers.back().get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  };
  const auto frame = [](const wire::Header& header, std::size_t more) {
    std::vector<std::byte> bytes(sizeof header + more);
    std::memcpy(bytes.data(), &header, sizeof header);
    return bytes;
  };
  send({});
  send(std::vector<std::byte>(1, std::byte{'G'}));
  send(std::vector<std::byte>(100'000, std::byte{'G'}));
  send(frame(wire::header(wire::FrameType::hello, 32), 5));            // half a hello
  send(frame(wire::header(wire::FrameType::hello, 32), 32));           // asks for nothing that is here
  send(frame(wire::header(wire::FrameType::request, 0, 1, 1, 0), 0));  // no hello
  send(frame(wire::header(wire::FrameType::push, ~0u, 16), 0));        // 4 GiB of bitmap
  const auto result = run_guest(fed_plan("no_uffd_wait", source.port()));
  check_right(*result);
  CHECK(source.served().refused >= 4);
}

TEST("a source does not keep a connection for a push that was asked to take an hour, when its peer has gone") {
  SourceServer source(held_memory());
  const Descriptor stop(::eventfd(0, EFD_CLOEXEC));
  const Descriptor peer = tcp::connect_to(tcp::resolve("127.0.0.1", source.port(), false), stop.get(), ~0ull);
  const wire::Header hello = wire::header(wire::FrameType::hello, sizeof(wire::Hello));
  const wire::Hello wanted{1, kPages * 4096, 4096, kSeed};
  const std::vector<std::byte> everything(kPages / 8, std::byte{0xff});
  const wire::Header push = wire::header(wire::FrameType::push, kPages / 8, 1, 4096 * kPages / 3600);
  std::array parts{iovec{const_cast<wire::Header*>(&hello), sizeof hello},
                   iovec{const_cast<wire::Hello*>(&wanted), sizeof wanted}, iovec{const_cast<wire::Header*>(&push), sizeof push},
                   iovec{const_cast<std::byte*>(everything.data()), everything.size()}};
  tcp::send_all(peer.get(), parts, stop.get(), kNanosecondsPerSecond);
  ::shutdown(peer.get(), SHUT_WR);
  tcp::Inbox inbox(1 << 20);
  const std::uint64_t patience = Clock::monotonic_ns() + 10 * kNanosecondsPerSecond;
  const double took = seconds_of([&] {
    try {
      while (Clock::monotonic_ns() < patience)
        if (tcp::wait(peer.get(), POLLIN, stop.get(), kNanosecondsPerSecond)) inbox.take(inbox.receive(peer.get()));
    } catch (const tcp::Ended&) {
    }
  });
  CHECK(took < 10.0);
}
