// The balloon: gives pages of the guest back to the host behind the VMM's back. It drops what the guest has, one page at a time,
// at random; a page that is not there yet, or poisoned, is no page a guest would give away.
#include <cerrno>

#include "disturb/disturbance.hpp"
#include "guest/access_order.hpp"
#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

DropMethod drop_method(const std::string& name) {
  if (name == "dontneed") return DropMethod::dontneed;
  if (name == "remove") return DropMethod::remove;
  if (name == "punch") return DropMethod::punch;
  throw ConfigError("balloon.method '" + name + "' is unknown; it is one of dontneed, remove, punch");
}

namespace {

constexpr int kTries = 256;  // looks for a page that can be dropped; then the unit is missed

class Balloon final : public Disturbance {
 public:
  Balloon(const BalloonConfig& config, const Scene& scene)
      : config_(config),
        method_(drop_method(config.method)),
        scene_(scene),
        random_(scene.guest.config().seed + 77 + scene.vmm) {}

  const char* role() const override { return "balloon"; }
  double rate_per_s() const override { return config_.rate_per_s; }
  bool of_guest() const override { return true; }

  void work(std::uint32_t, Disturber& me) override {
    while (me.next()) {
      std::uint64_t page = 0;
      if (!find(page) || !begin(page)) continue;
      // KVM's MMU notifier takes the stage-2 entry away with the page, with or without a remove event. A vCPU may enter it
      // again before the page is gone, so once more afterwards.
      if (!config_.stale_stage2) scene_.vcpus.record.leave_stage2(page);
      drop(page);
      end(page);
      if (!config_.stale_stage2) scene_.vcpus.record.leave_stage2(page);
      ++me.counters[Counter::pages_dropped];
      ++me.done;
    }
  }

 private:
  // What is removed from the memfd is gone for every VMM process, so each page has one balloon that may remove it: then no
  // thread writes the contents of a page while it is being removed.
  bool may_drop(std::uint64_t page) const {
    const GuestConfig& guest = scene_.guest.config();
    if (scene_.vcpus.record.state(page) != PageState::resolved) return false;
    if (scene_.guest.kinds()[page] == static_cast<std::uint8_t>(Kind::poisoned)) return false;
    if (method_ == DropMethod::dontneed) return true;
    return page % (guest.vcpus / guest.vcpus_per_vmm) == scene_.vmm && (guest.external || scene_.guest.complete(page));
  }

  bool find(std::uint64_t& page) {
    for (int tries = 0; tries < kTries; ++tries) {
      page = random_.below(scene_.guest.pages());
      if (may_drop(page)) return true;
    }
    return false;
  }

  // No reader marks the page under an external handler. Before and after: a vCPU that touches it meanwhile has a record
  // for its fault.
  bool begin(std::uint64_t page) const {
    if (scene_.dropped == nullptr) return true;
    if (!scene_.dropped->begin(page)) return false;
    scene_.vcpus.record.discard(page);
    return true;
  }
  void end(std::uint64_t page) const {
    if (scene_.dropped == nullptr) return;
    scene_.dropped->end(page);
    scene_.vcpus.record.discard(page);
  }

  void drop(std::uint64_t page) const {
    const std::uint64_t bytes = scene_.guest.config().page_bytes;
    std::byte* at = scene_.vcpus.at(scene_.guest, page);
    const auto failed = [&](const char* call) { throw KernelError(call, errno, reinterpret_cast<std::uint64_t>(at), bytes); };
    switch (method_) {
      case DropMethod::dontneed:
        if (::madvise(at, bytes, MADV_DONTNEED) != 0) failed("madvise MADV_DONTNEED");
        break;
      case DropMethod::remove:
        if (::madvise(at, bytes, MADV_REMOVE) != 0) failed("madvise MADV_REMOVE");
        break;
      case DropMethod::punch:
        if (::fallocate(scene_.guest.region_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(page * bytes),
                        static_cast<off_t>(bytes)) != 0)
          failed("fallocate FALLOC_FL_PUNCH_HOLE");
        break;
    }
  }

  BalloonConfig config_;
  DropMethod method_;
  Scene scene_;
  Random random_;
};

}  // namespace

std::unique_ptr<Disturbance> make_balloon(const DisturbConfig& config, const Scene& scene) {
  if (config.balloon.rate_per_s <= 0.0) return nullptr;
  if (drop_method(config.balloon.method) != DropMethod::dontneed && scene.guest.region_fd() < 0)
    throw ConfigError("balloon.method " + config.balloon.method + " takes pages of a memfd away, and anonymous memory has none");
  return std::make_unique<Balloon>(config.balloon, scene);
}

}  // namespace uffd
