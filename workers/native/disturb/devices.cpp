// Devices: threads that reach guest memory by system calls, as back ends of virtual devices do. write(2) out of it and read(2)
// into it fault inside the kernel, so they cannot exit: on a mapping that sleeps a reader serves them, on one that refuses to
// (UFFD_FEATURE_SIGBUS) they get EFAULT. The other end is a pipe: writing to it copies the bytes, which /dev/null would not.
// It never blocks, so an access that slept did so for guest memory: for its page, or for the mmap_lock.
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "disturb/disturbance.hpp"
#include "guest/access_order.hpp"
#include "guest/wrong_word.hpp"
#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {
namespace {

constexpr std::uint64_t kChunkBytes = kBasePageBytes;
using Chunk = std::array<std::uint64_t, kChunkBytes / 8>;

class Devices final : public Disturbance {
 public:
  Devices(const DevicesConfig& config, const Scene& scene) : config_(config), scene_(scene) {}

  const char* role() const override { return "device"; }
  std::uint32_t threads() const override { return config_.threads; }
  double rate_per_s() const override { return config_.rate_per_s; }
  bool of_guest() const override { return true; }

  void work(std::uint32_t number, Disturber& me) override {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) throw KernelError("pipe2", errno);
    const Descriptor from(ends[0]), to(ends[1]);
    Random random(scene_.guest.config().seed + 177 + number + 1000ull * scene_.vmm);
    const std::uint64_t chunks = scene_.guest.config().page_bytes / kChunkBytes;
    for (bool out = true; me.next(); out = !out) {
      const std::uint64_t page = random.below(scene_.guest.pages());
      const std::uint64_t chunk = chunks == 1 ? 0 : random.below(chunks);
      if (out)
        write_out(from, to, page, chunk, me);
      else
        read_in(from, to, page, chunk, me);
      ++me.counters[Counter::device_accesses];
      ++me.done;
    }
  }

 private:
  std::byte* at(std::uint64_t page, std::uint64_t chunk) const {
    return scene_.devices.at(scene_.guest, page) + chunk * kChunkBytes;
  }

  std::uint64_t expected(std::uint64_t page, std::uint64_t chunk, std::uint64_t word) const {
    const Contents& contents = scene_.guest.contents();
    return contents.word(contents.base(page), chunk * (kChunkBytes / 8) + word);
  }

  void write_out(const Descriptor& from, const Descriptor& to, std::uint64_t page, std::uint64_t chunk, Disturber& me) const {
    const bool dropped = scene_.dropped != nullptr && scene_.dropped->dropped(page);
    const ssize_t done = access(SYS_write, to, page, chunk, me);
    if (done < 0 && errno != EFAULT) throw KernelError("write of guest memory to a pipe", errno);
    if (done < static_cast<ssize_t>(kChunkBytes)) refused(page, me);
    Chunk words;
    if (done <= 0 || drain(from, words) != kChunkBytes || done != static_cast<ssize_t>(kChunkBytes)) return;
    if (scene_.guest.stopping()) return;  // a sleeper that the stop has woken finds zeros
    for (std::uint64_t i = 0; i < words.size(); ++i)
      if (!allows(scene_.dropped, page, words[i], expected(page, chunk, i), dropped) && me.wrong_words++ == 0)
        me.first_wrong = "device: " + describe_wrong_word(page, chunk * words.size() + i, words[i], expected(page, chunk, i));
  }

  // The bytes are those the page has anyway, so nothing changes but the page's being there. Zeros of one that the balloon has
  // dropped; while it is being dropped, or written by another device, it is read instead.
  void read_in(const Descriptor& from, const Descriptor& to, std::uint64_t page, std::uint64_t chunk, Disturber& me) const {
    const bool dropped = scene_.dropped != nullptr && scene_.dropped->dropped(page);
    const bool claimed = scene_.dropped != nullptr && scene_.dropped->begin_write(page);
    if (scene_.dropped != nullptr && !dropped && !claimed) return write_out(from, to, page, chunk, me);
    write_in(from, to, page, chunk, dropped, me);
    if (claimed) scene_.dropped->end_write(page);
  }

  void write_in(const Descriptor& from, const Descriptor& to, std::uint64_t page, std::uint64_t chunk, bool zeros,
                Disturber& me) const {
    Chunk words{};
    for (std::uint64_t i = 0; i < words.size() && !zeros; ++i) words[i] = expected(page, chunk, i);
    if (::write(to.get(), words.data(), kChunkBytes) != static_cast<ssize_t>(kChunkBytes))
      throw KernelError("write to a pipe", errno);
    const ssize_t done = access(SYS_read, from, page, chunk, me);
    if (done < 0 && errno != EFAULT) throw KernelError("read from a pipe into guest memory", errno);
    if (done < static_cast<ssize_t>(kChunkBytes)) {
      refused(page, me);
      drain(from, words);
    }
  }

  // By syscall(), for a device and a vCPU on one word are no data race of this program, as the thread sanitizer would have it of
  // read() and write(). errno is the call's.
  ssize_t access(long call, const Descriptor& end, std::uint64_t page, std::uint64_t chunk, Disturber& me) const {
    const long switches = voluntary_switches();
    const Ticks began = Clock::get().now();
    const ssize_t done = ::syscall(call, end.get(), at(page, chunk), kChunkBytes);
    const int error = errno;
    const Ticks took = Clock::get().now() - began;
    if (voluntary_switches() != switches) {
      me.sleeps.add(took, 1);
      me.longest_sleep = std::max(me.longest_sleep, took);
      ++me.counters[Counter::device_sleeps];
    }
    errno = error;
    return done;
  }

  static long voluntary_switches() {
    rusage usage{};
    ::getrusage(RUSAGE_THREAD, &usage);  // cannot fail: the arguments are right
    return usage.ru_nvcsw;
  }

  static std::uint64_t drain(const Descriptor& from, Chunk& words) {
    const ssize_t done = ::read(from.get(), words.data(), kChunkBytes);
    return done < 0 ? 0 : static_cast<std::uint64_t>(done);
  }

  // Both are the same to the caller; only the record has the difference.
  void refused(std::uint64_t page, Disturber& me) const {
    const bool poisoned = scene_.devices.record.state(page) == PageState::poisoned ||
                          scene_.guest.kinds()[page] == static_cast<std::uint8_t>(Kind::poisoned);
    ++me.counters[poisoned ? Counter::device_poisoned : Counter::device_refused];
  }

  DevicesConfig config_;
  Scene scene_;
};

}  // namespace

std::unique_ptr<Disturbance> make_devices(const DisturbConfig& config, const Scene& scene) {
  if (config.devices.threads == 0) return nullptr;
  return std::make_unique<Devices>(config.devices, scene);
}

}  // namespace uffd
