// What runs inside a KVM guest: the touches of a vCPU, and a note of each with the guest's own stamps. As few instructions as
// will do, for a KVM without hardware support may emulate every one of them; the books are kept by the host, from the notes.
// Host and guest share these objects: the host writes what to do and reads what was done, each only while the other stands still.
#pragma once

#include "kernel/vocabulary.hpp"
#include "kvm/guest_cpu.hpp"
#include "vcpu/access_account.hpp"

namespace uffd {

enum class GuestCommand : std::uint64_t { warm_up, walk };
/// Why the guest has rung the doorbell.
enum class GuestCall : std::uint64_t { ready = 1, wait, trap, stray };

/// One access: what the host asks for, and what the guest found.
struct GuestAccess {
  enum Flag : std::uint8_t {
    kWrites = 1,
    kThinks = 2,    ///< after some time of thinking
    kDue = 4,       ///< not before `due`
    kByKernel = 8,  ///< the kernel may bring the page in by itself: note whether this touch was the first
    kMarks = 16,    ///< note how many pages readers have resolved by then
    kWhole = 32,    ///< check all words of the page, unless the one touched is not as `expected`
    // Set while the access is under way.
    kExited = 64,    ///< it has left the guest
    kGivenUp = 128,  ///< for a memory error, which is injected into the guest
  };
  std::uint64_t* word;
  std::uint64_t expected;
  std::uint32_t page;
  std::uint8_t flags;
  // Found.
  std::uint8_t known;  ///< the page's byte in the record, before
  bool first;          ///< first_touch() of the page
  bool waited;         ///< a reader had its event; noted where the next access may use the same record
  Ticks due;
  Ticks raised, resumed;
  std::uint64_t value;
  std::uint64_t by_readers;  ///< pages resolved
};

class GuestVcpu {
 public:
  /// Memory of the guest's that is touched before the clock starts.
  struct Span {
    std::uint64_t* first;
    std::uint64_t bytes;
  };
  /// What stays as it is. The pointers are the guest's.
  struct Job {
    const SharedHeader* header;
    VcpuState* state;
    FaultRecord* records;
    GuestAccess* accesses;
    PageRecord pages;
    Contents contents;
    std::uint64_t page_bytes;
    std::uint64_t record_capacity;
    std::uint64_t sample_every;
    Ticks think;
    bool userfaultfd;
    bool external;       ///< a handler that is not ours resolves
    bool opens_records;  ///< for a reader to find: a vCPU that exits has its host open them
    Span own[5];
  };

  explicit GuestVcpu(const Job& job) noexcept : job_(job) {}

  // The host's side.
  void warm() noexcept { command_ = GuestCommand::warm_up; }
  /// The next `accesses`. `faults` and `recorded`: what the books hold of those before.
  void ask(std::uint64_t accesses, std::uint64_t faults, std::uint64_t recorded) noexcept {
    command_ = GuestCommand::walk;
    count_ = accesses;
    recorded_ = recorded;
    until_sampled_ = (job_.sample_every - faults % job_.sample_every) % job_.sample_every;
    deal();
  }
  const WrongWord& wrong_word() const noexcept { return wrong_; }
  std::uint64_t waits_since() const noexcept { return waits_since_; }  ///< of GuestCall::wait
  std::uint64_t until() const noexcept { return until_; }              ///< the same
  std::uint64_t entered() const noexcept { return entered_; }          ///< read at the beginning of the last warm-up
  std::uint64_t counter() const noexcept { return counter_; }          ///< and at its end
  /// The host has opened a record for an access that the guest did not take for a fault: its slot is used.
  void used_slot() noexcept { next_slot(); }

  // The guest's.
  [[noreturn]] void live() noexcept {
    while (true) {
      call(GuestCall::ready);
      if (command_ == GuestCommand::warm_up)
        warm_up();
      else if (job_.opens_records)
        walk<true>();
      else
        walk<false>();
    }
  }

 private:
  // relaxed: progress and counts of this vCPU, read by others as of a moment ago. What a reader needs of a record is stored
  // before `slot`, with release order.
  static constexpr auto kRelaxed = std::memory_order_relaxed;

  static void call(GuestCall why) noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);  // the host reads and writes this object meanwhile
    *reinterpret_cast<volatile std::uint64_t*>(kGuestDoorbell) = static_cast<std::uint64_t>(why);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  bool stopping() const noexcept { return job_.header->stopping.load(std::memory_order_acquire) != 0; }
  bool wait_until(Ticks when) noexcept {
    if (const Ticks now = guest_counter(); now < when) {
      waits_since_ = now;
      until_ = when;
      call(GuestCall::wait);
      // The host comes back early by what the entry takes: an exit and an entry after the time would be lateness of the wait.
      while (guest_counter() < when && !stopping()) {
      }
    }
    return !stopping();
  }

  template <bool kOpensRecords>
  void walk() noexcept {
    const FutexWord& stop = job_.header->stopping;
    std::atomic<std::uint64_t>& accesses = job_.state->accesses;
    std::uint64_t done = accesses.load(kRelaxed);
    GuestAccess* access = job_.accesses;
    for (const GuestAccess* const end = access + count_; access != end; ++access) {
      const std::uint8_t flags = access->flags;
      if ((flags & ~GuestAccess::kWrites) == 0) {
        make<kOpensRecords>(*access, flags);
      } else {
        if (!wait_for(*access)) return;
        make<kOpensRecords>(*access, flags);
        look(*access);
      }
      accesses.store(++done, kRelaxed);
      if (stop.load(std::memory_order_acquire) != 0) return;
    }
  }
  template <bool kOpensRecords>
  void make(GuestAccess& access, std::uint8_t flags) noexcept {
    const std::uint64_t page = access.page;
    const std::uint8_t known = job_.pages.byte(page);
    access.known = known;
    job_.state->page.store(page, kRelaxed);
    if (kOpensRecords) {
      if (PageRecord::faults(known)) {
        open_record(page);
        touch(access, flags);
        leave_record(access);
        return;
      }
      job_.state->stage.store(Stage::touching, kRelaxed);
    }
    touch(access, flags);
  }
  static void touch(GuestAccess& access, std::uint8_t flags) noexcept {
    access.raised = guest_counter();
    access.value = (flags & GuestAccess::kWrites) ? uffd_guest_write(access.word) : uffd_guest_read(access.word);
    access.resumed = guest_counter();
  }

  // The slots are dealt as the host's books will deal them: the next one to a fault that is sampled, while there is room.
  void open_record(std::uint64_t page) noexcept {
    FaultRecord& record = job_.records[slot_];
    if (slot_ == job_.record_capacity) {
      record.delivered.store(0, kRelaxed);
      record.fetched.store(0, kRelaxed);
      record.installed.store(0, kRelaxed);
    }
    record.page.store(static_cast<std::uint32_t>(page), kRelaxed);
    job_.state->slot.store(slot_, std::memory_order_release);
    job_.state->stage.store(Stage::raised, kRelaxed);
  }
  void leave_record(GuestAccess& access) noexcept {
    const bool by_kernel = (access.flags & GuestAccess::kByKernel) != 0;
    if (by_kernel || slot_ == job_.record_capacity)
      access.waited = job_.records[slot_].delivered.load(std::memory_order_acquire) != 0;
    job_.state->slot.store(kNoSlot, kRelaxed);  // an event that is read later is not of this record
    if (!by_kernel) next_slot();                // else who was first has to be known before
  }
  void next_slot() noexcept {
    if (slot_ != job_.record_capacity) ++recorded_;
    until_sampled_ = until_sampled_ == 0 ? job_.sample_every - 1 : until_sampled_ - 1;
    deal();
  }
  void deal() noexcept { slot_ = until_sampled_ == 0 && recorded_ < job_.record_capacity ? recorded_ : job_.record_capacity; }

  bool wait_for(const GuestAccess& access) noexcept {
    if ((access.flags & GuestAccess::kThinks) && !wait_until(guest_counter() + job_.think)) return false;
    return (access.flags & GuestAccess::kDue) == 0 || wait_until(access.due);
  }
  void look(GuestAccess& access) noexcept {
    const std::uint8_t flags = access.flags;
    if (flags & GuestAccess::kByKernel) {
      // Sleepers of a run that is being stopped wake up to a page of zeros.
      access.first = !(job_.external && stopping()) && first_touch(job_.pages, access.page, access.known, job_.userfaultfd);
      if (job_.opens_records && PageRecord::faults(access.known) && is_fault(access)) next_slot();
    }
    if (flags & GuestAccess::kMarks) access.by_readers = job_.state->resolved_by_reader.load(kRelaxed);
    const bool whole = (flags & (GuestAccess::kWhole | GuestAccess::kGivenUp)) == GuestAccess::kWhole;
    if (!whole || access.value != access.expected) return;
    const std::uint64_t page_at = reinterpret_cast<std::uint64_t>(access.word) & ~(job_.page_bytes - 1);
    WrongWord found;
    found.add_those_of(job_.contents, access.page, reinterpret_cast<const std::uint64_t*>(page_at));
    if (!stopping()) wrong_.add(found);  // a sleeper of a run that is being stopped wakes up to a page of zeros
  }
  // Of a page prepared swapped out the first touch alone is, unless it came back or waited.
  bool is_fault(const GuestAccess& access) const noexcept {
    return access.first || access.waited || !PageRecord::swapped_out(access.known) || (access.flags & GuestAccess::kExited) != 0;
  }
  void warm_up() noexcept {
    entered_ = guest_counter();
    for (const Span& span : job_.own)
      for (std::uint64_t at = 0; at < span.bytes / sizeof *span.first; at += kBasePageBytes / sizeof *span.first)
        __atomic_fetch_add(span.first + at, 0, __ATOMIC_RELAXED);
    counter_ = guest_counter();
  }

  Job job_;
  GuestCommand command_ = GuestCommand::warm_up;
  std::uint64_t count_ = 0;
  std::uint64_t slot_ = 0;  ///< of the next record that the guest opens
  std::uint64_t recorded_ = 0, until_sampled_ = 0;
  WrongWord wrong_;
  std::uint64_t waits_since_ = 0, until_ = 0;
  std::uint64_t entered_ = 0, counter_ = 0;
};

}  // namespace uffd
