#include "vmm/next_round.hpp"

#include <sys/mman.h>

#include <array>
#include <chrono>
#include <cstring>
#include <thread>

#include "kernel/error.hpp"
#include "resolve/fill.hpp"

namespace uffd {

namespace {

constexpr auto kLookAgain = std::chrono::microseconds(20);

bool any_in_flight(const PageRecord& record, std::uint64_t pages) noexcept {
  for (std::uint64_t page = 0; page < pages; ++page)
    if (record.state(page) == PageState::in_flight) return true;
  return false;
}

/// Readers as they were when it was made. One that spins reads all the time: it has answered what it had when it has answered
/// once since.
class Readers {
 public:
  explicit Readers(const Guest& guest) : slots_(guest.header().answering) {
    for (std::size_t i = 0; i < slots_.size(); ++i) times_[i] = slots_[i].times.load(std::memory_order_acquire);
  }
  bool answering() const noexcept {
    for (std::size_t i = 0; i < slots_.size(); ++i)
      if (slots_[i].readers.load(std::memory_order_seq_cst) != 0 && slots_[i].times.load(std::memory_order_acquire) == times_[i])
        return true;
    return false;
  }

 private:
  const std::array<SharedHeader::Answering, SharedHeader::kAnsweringSlots>& slots_;
  std::array<std::uint32_t, SharedHeader::kAnsweringSlots> times_;
};

void drop_pages(const Mapping& region) {
  if (::madvise(region.data(), region.bytes(), MADV_DONTNEED) != 0)
    throw KernelError("madvise MADV_DONTNEED between rounds", errno, region.address(), region.bytes());
}

}  // namespace

bool NextRound::prepare(std::uint32_t finished) {
  if (!is_.disturbances.hold(finished + 1, is_.patience_s)) return false;
  if (!meet("holding the disturbances")) return false;
  if (!answered()) return false;
  is_.credit_unclaimed();
  settle();
  if (!meet("answering the last events")) return false;
  if (is_.leads) end_round(is_.guest, finished, is_.config);
  if (!another_round(is_.guest, finished)) return false;
  is_.forget_counted();
  drop();
  if (!meet("dropping the mapped pages")) return false;
  if (is_.leads) {
    is_.guest.forget_resolved();
    unprepared_ += refill(is_.guest).unprepared;
  }
  if (!meet("restoring the contents")) return false;
  is_.prepare.again = true;
  unprepared_ += uffd::prepare(is_.prepare).unprepared;
  if (!meet("preparing the page states")) return false;
  if (is_.leads) prepared_round(is_.guest, finished);
  return !is_.guest.stopping();
}

// A reader may still have an event whose vCPU was woken by another resolve: answered later, it would map a page of the next
// round.
bool NextRound::answered() const {
  const PageRecord& record = is_.prepare.resolver.record();
  const std::uint64_t pages = is_.guest.pages();
  const auto began = std::chrono::steady_clock::now();
  const Readers readers(is_.guest);
  while (readers.answering() || any_in_flight(record, pages) ||
         (is_.devices != nullptr && any_in_flight(is_.devices->pages(), pages))) {
    if (is_.guest.stopping()) return false;
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - began;
    if (is_.patience_s > 0 && waited.count() > is_.patience_s)
      is_.guest.stop("stuck: between rounds, the page server has not answered every event");
    std::this_thread::sleep_for(kLookAgain);
  }
  return !is_.guest.stopping();
}

void NextRound::settle() {
  for (const auto& vcpu : is_.vcpus) {
    vcpu->settle_round();
    if (!vcpu->has_room()) is_.guest.header().rounds.full.store(1, std::memory_order_release);
  }
}

// Where removes are tracked, registration ends meanwhile: a dropped page would be an event, and wait for its reader.
void NextRound::drop() const {
  if (is_.tracks_removes) is_.registration.end_sleepers();
  drop_pages(is_.registration.region);
  std::memset(is_.record.data(), 0, is_.guest.pages());
  if (is_.tracks_removes) is_.registration.register_again();
  if (is_.devices == nullptr) return;
  drop_pages(is_.devices->region);
  std::memset(is_.devices->record.data(), 0, is_.guest.pages());
}

}  // namespace uffd
