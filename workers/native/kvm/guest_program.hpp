// What runs inside a KVM guest: the walk of a vCPU, with the guest's own instructions and the guest's own stamps. Host and
// guest share the object: the host writes what to do and reads what was done, each only while the other stands still.
#pragma once

#include "../kernel.hpp"
#include "../milestones.hpp"
#include "../walk.hpp"
#include "guest_cpu.hpp"

namespace uffd {

enum class GuestCommand : std::uint64_t { warm_up, walk };
/// Why the guest has rung the doorbell.
enum class GuestCall : std::uint64_t { ready = 1, wait, trap, stray };

class GuestVcpu : public Walk<GuestVcpu> {
 public:
  /// Pages of the order array and of what the guest writes, itself among them: touched before the clock starts.
  struct Span {
    std::uint64_t* first;
    std::uint64_t bytes;
  };
  struct Job {
    const SharedHeader* header;
    GuestTraps* traps;
    const std::uint32_t* order;  ///< page numbers; kWrites set: write
    std::uint64_t count;
    bool stamps;  ///< its counter is the host's
    Span own[5];
  };
  static constexpr std::uint32_t kWrites = 1u << 31;

  GuestVcpu(const Books& books, const Job& job, const Milestones& milestones) noexcept
      : Walk(books), job_(job), milestones_(milestones) {}

  // The host's side.
  void ask(GuestCommand command) noexcept { command_ = command; }
  Progress& progress() noexcept { return *this; }
  Job& job() noexcept { return job_; }
  Milestones& milestones() noexcept { return milestones_; }
  const Counters& counters() const noexcept { return counters_; }
  const WrongWord& wrong_word() const noexcept { return wrong_; }
  std::uint64_t until() const noexcept { return until_; }      ///< of GuestCall::wait
  std::uint64_t counter() const noexcept { return counter_; }  ///< read in the last warm-up
  std::uint16_t cpu = 0;                                       ///< the host's, as of the last entry

  // The guest's.
  [[noreturn]] void live() noexcept {
    while (true) {
      call(GuestCall::ready);
      if (command_ == GuestCommand::walk)
        run();
      else
        warm_up();
    }
  }
  bool stopping() const noexcept { return job_.header->stopping.load(std::memory_order_acquire) != 0; }
  Ticks now() const noexcept { return job_.stamps ? guest_counter() : 0; }
  void walked(std::uint64_t done) noexcept {
    if (job_.stamps && milestones_.due(done)) [[unlikely]]
      milestones_.mark(now(), done, resolved_ + state_.resolved_by_reader.load(kRelaxed));
  }
  void stamp_resumed(FaultRecord& record) const noexcept {
    record.resumed = now();
    record.cpu = cpu;
  }
  bool wait_until(Ticks when) noexcept {
    if (now() < when) {
      until_ = when;
      call(GuestCall::wait);
    }
    return !stopping();
  }
  std::uint64_t touch(std::uint64_t, std::uint8_t, std::uint64_t* word, bool read) noexcept {
    const std::uint64_t before = job_.traps->memory_errors;
    const std::uint64_t value = read ? uffd_guest_read(word) : uffd_guest_write(word);
    if (open_) slot_ = &records_[slot_index_];  // the host may have opened one
    if (job_.traps->memory_errors != before) memory_error_ = true;
    return value;
  }

 private:
  static void call(GuestCall why) noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);  // the host reads and writes this object meanwhile
    *reinterpret_cast<volatile std::uint64_t*>(kGuestDoorbell) = static_cast<std::uint64_t>(why);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  void run() noexcept {
    const std::uint32_t* entry = job_.order;
    walk(job_.count, [&entry] {
      const Access next{*entry & ~kWrites, (*entry & kWrites) == 0};
      ++entry;
      return next;
    });
  }
  void warm_up() noexcept {
    for (const Span& span : job_.own)
      for (std::uint64_t at = 0; at < span.bytes / sizeof *span.first; at += kBasePageBytes / sizeof *span.first)
        __atomic_fetch_add(span.first + at, 0, __ATOMIC_RELAXED);
    counter_ = guest_counter();
  }

  Job job_;
  Milestones milestones_;
  GuestCommand command_ = GuestCommand::warm_up;
  std::uint64_t until_ = 0;
  std::uint64_t counter_ = 0;
};

}  // namespace uffd
