// Walking an access order: raise an access, touch, account for how it ended, check the word. One text for whoever does it:
// a vCPU's thread, or the program inside a KVM guest, which keeps the very same books in memory it shares with its host.
// The one who derives (`Self`) knows how to read a clock, to touch a word and to wait; dispatch is static.
#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

#include "clock.hpp"
#include "contents.hpp"
#include "counters.hpp"
#include "fault_record.hpp"
#include "guest.hpp"
#include "page_record.hpp"

namespace uffd {

enum class Verify { none, word, page };

/// The access under way and what has been counted so far. Plain numbers: a guest and its host hand all of it over on every exit,
/// so whatever an access changes that its exit has to know belongs here.
struct Progress {
  std::uint64_t page_ = 0;
  PageState when_raised_ = PageState::unresolved;
  std::uint32_t attempt_ = 0;
  std::uint32_t installed_again_ = 0;
  bool open_ = false;
  bool abandoned_ = false;
  bool resolved_here_ = false;
  bool populated_ = false;
  bool memory_error_ = false;
  Ticks raised_ = 0;
  std::uint64_t slot_index_ = 0;
  Ticks intended_ = 0;  ///< of the next access of an open loop
  std::uint64_t done_ = 0;
  std::uint64_t faults_ = 0;
  Ticks longest_fault_ = 0;
  std::uint64_t recorded_ = 0;
  std::uint64_t resolved_ = 0;
};

/// What does not change while a vCPU walks. The pointers are the walker's own: a guest has other ones than its host.
struct Books {
  VcpuState& state;
  FaultRecord* records;
  PageRecord pages;
  Contents contents;
  std::byte* region;
  std::uint64_t page_bytes;
  std::uint64_t sample_every;
  std::uint64_t record_capacity;
  Ticks interval;  ///< of an open loop; 0: a closed one
  Ticks think;
  Verify verify;
  bool userfaultfd;
  bool exits;  ///< the strategy is meant to come back to user space
};

struct Access {
  std::uint64_t page;
  bool read;
};

struct WrongWord {
  std::uint64_t count = 0, page = 0, index = 0, found = 0;
};

/// What a walker keeps for itself: a guest and its host have one each, and add up what they counted when the walk is over. The
/// counters come last, for they fill whole cache lines: nothing fits unseen behind them.
struct Keepings {
  Books books_;
  VcpuState& state_;
  FaultRecord* records_;
  FaultRecord* slot_ = nullptr;  ///< of `slot_index_`, in the walker's own memory
  WrongWord wrong_;
  Counters counters_;
};

template <class Self>
class Walk : protected Progress, protected Keepings {
 public:
  explicit Walk(const Books& books) noexcept : Keepings{books, books.state, books.records} {
    struct Nothing : Progress, Keepings {};
    static_assert(std::is_trivially_copyable_v<Progress>, "a guest and its host hand Progress over as plain bytes");
    static_assert(sizeof(Walk) == sizeof(Nothing),
                  "Walk has no fields of its own: one of the access under way belongs in Progress, or an exit from a guest forgets it");
  }

 protected:
  static constexpr auto kRelaxed = std::memory_order_relaxed;

  /// `count` accesses, each what `next()` says. False: the run is being stopped.
  template <class Next>
  bool walk(std::uint64_t count, Next next) {
    const Ticks interval = books_.interval;
    const Ticks think = books_.think;
    std::uint64_t done = done_;
    for (std::uint64_t i = 0; i < count; ++i) {
      if (self().stopping()) return false;
      const auto [page, read] = next();
      if (interval != 0 && !self().wait_until(intended_)) return false;
      access(page, read, interval == 0 ? 0 : intended_);
      intended_ += interval;
      state_.accesses.store(++done, kRelaxed);
      self().walked(done);
      if (think != 0 && !self().wait_until(self().now() + think)) return false;
    }
    done_ = done;
    return true;
  }

  [[gnu::hot]] void access(std::uint64_t page, bool read, Ticks intended) {
    const std::uint8_t known = books_.pages.byte(page);
    const PageState was = PageRecord::state_of(known);
    page_ = page;
    when_raised_ = was;
    attempt_ = installed_again_ = 0;
    open_ = abandoned_ = resolved_here_ = populated_ = memory_error_ = false;
    state_.page.store(page, kRelaxed);
    raised_ = self().now();
    if (was != PageState::resolved || PageRecord::swapped_out(known))
      open_record(page, intended);
    else
      state_.stage.store(Stage::touching, kRelaxed);

    const std::uint64_t base = books_.contents.base(page);
    const std::uint64_t index = books_.contents.touched_word(base);
    auto* word = reinterpret_cast<std::uint64_t*>(books_.region + page * books_.page_bytes) + index;
    const std::uint64_t value = self().touch(page, known, word, read);

    // A run that is being stopped ends registration to wake its sleepers: what such a touch found is nobody's resolve.
    if (open_ && self().stopping() && books_.userfaultfd && slot_->installed.load(kRelaxed) == 0) abandoned_ = true;
    if (open_) {
      if (intended != 0 && slot_->intended == 0) slot_->intended = intended;
      close_record(known);
    }
    if (!abandoned_ && !memory_error_ && books_.verify != Verify::none) check(page, base, index, value);
  }

  [[gnu::hot]] void open_record(std::uint64_t page, Ticks intended) noexcept {
    open_ = true;
    // The slot after the last is the scratch slot: faults that are not sampled, or have no room, pass through it.
    const bool sampled = faults_ % books_.sample_every == 0;
    const bool room = recorded_ < books_.record_capacity;
    if (sampled && !room && books_.record_capacity != 0) ++counters_[Counter::records_dropped];  // 0: no record was asked for
    slot_index_ = sampled && room ? recorded_ : books_.record_capacity;
    slot_ = &records_[slot_index_];
    slot_->intended = intended;
    slot_->raised = raised_;
    slot_->delivered.store(0, kRelaxed);
    slot_->fetched.store(0, kRelaxed);
    slot_->installed.store(0, kRelaxed);
    slot_->page.store(static_cast<std::uint32_t>(page), kRelaxed);
    slot_->exit = Exit::none;
    state_.slot.store(slot_index_, std::memory_order_release);
    state_.stage.store(Stage::raised, kRelaxed);
  }

  [[gnu::hot]] void close_record(std::uint8_t known) noexcept {
    self().stamp_resumed(*slot_);
    FaultOutcome outcome = FaultOutcome::lost_race;
    if (memory_error_) {
      outcome = FaultOutcome::memory_error;
    } else if (abandoned_) {
      outcome = FaultOutcome::abandoned;
      ++counters_[Counter::abandoned];
    } else if (resolved_here_) {
      outcome = FaultOutcome::resolved;
    } else if (populated_) {
      outcome = FaultOutcome::populated;
    } else if (!books_.userfaultfd) {
      // The kernel mapped it. Who takes the page in hand first has it counted.
      outcome = FaultOutcome::kernel;
      if (PageRecord::state_of(known) == PageState::unresolved && books_.pages.claim(page_, PageRecord::vcpu_claim())) {
        books_.pages.set(page_, PageState::resolved);
        state_.resolved_by_vcpu.store(++resolved_, kRelaxed);
      }
    } else if (attempt_ == 0 && slot_->delivered.load(std::memory_order_acquire) != 0) {
      outcome = FaultOutcome::waited;
    } else if (attempt_ == 0 && PageRecord::swapped_out(known)) {
      if (!books_.pages.set_swapped_in(page_)) return;  // another vCPU's touch has brought it in
      outcome = FaultOutcome::kernel;
    } else if (attempt_ == 0 && books_.exits) {
      return;  // no exit came: another vCPU resolved the page between our look at the record and the touch. Not a fault.
    }
    if (PageRecord::swapped_out(known)) books_.pages.set_swapped_in(page_);
    if (outcome == FaultOutcome::lost_race) ++counters_[Counter::lost_races];
    slot_->outcome = outcome;
    if (slot_->resumed - slot_->raised > longest_fault_) longest_fault_ = slot_->resumed - slot_->raised;
    if (slot_index_ != books_.record_capacity) ++recorded_;
    state_.faults.store(++faults_, std::memory_order_release);  // whoever sees the count may read the record
  }

  [[gnu::hot]] void check(std::uint64_t page, std::uint64_t base, std::uint64_t index, std::uint64_t word) noexcept {
    if (word != Contents::word(base, index)) {
      wrong(1, page, index, word);
      return;
    }
    if (books_.verify != Verify::page) return;
    const std::byte* at = books_.region + page * books_.page_bytes;
    std::uint64_t first = 0;
    const std::uint64_t count = books_.contents.wrong_words(page, at, first);
    if (count != 0) wrong(count, page, first, reinterpret_cast<const std::uint64_t*>(at)[first]);
  }

  void wrong(std::uint64_t count, std::uint64_t page, std::uint64_t index, std::uint64_t found) noexcept {
    if (wrong_.count == 0) wrong_ = {0, page, index, found};
    wrong_.count += count;
  }

 private:
  Self& self() noexcept { return static_cast<Self&>(*this); }
};

}  // namespace uffd
