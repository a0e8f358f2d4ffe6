// What an access under way has come to: raised, its record opened and closed, its word checked, and what has been counted so far.
// Shared by both makers of accesses: a vCPU's thread, and the program inside a KVM guest, which only stores what it measured
// for its host to count.
#pragma once

#include <atomic>
#include <cstdint>

#include "guest/contents.hpp"
#include "guest/counters.hpp"
#include "guest/dropped_pages.hpp"
#include "guest/fault_record.hpp"
#include "guest/guest.hpp"
#include "guest/page_record.hpp"
#include "guest/wrong_word.hpp"
#include "kernel/clock.hpp"
#include "resolve/emulation.hpp"

namespace uffd {

enum class Verify { none, word, page };

/// What does not change while a vCPU walks its order.
struct Books {
  const Guest& guest;
  VcpuState& state;
  FaultRecord* records;
  PageRecord pages;
  Contents contents;
  std::byte* region;
  std::uint64_t page_bytes;
  std::uint64_t sample_every;
  std::uint64_t record_capacity;
  Ticks think;
  Verify verify;
  bool userfaultfd;             ///< a page server of ours notes in the record what it resolves
  bool exits;                   ///< the strategy is meant to come back to user space
  bool external;                ///< a handler that is not ours resolves: a page is resolved when it has been touched
  PageLayout layout;            ///< of the mapping at `region`
  const DroppedPages* dropped;  ///< pages that are to read as zeros; null: none is

  [[gnu::always_inline]] std::byte* at(std::uint64_t page) const noexcept { return region + layout.offset(page); }
};

/// How an access ended, as its maker measured it.
struct Touched {
  std::uint64_t value = 0;  ///< of the word that was touched
  Ticks resumed = 0;
  std::uint16_t cpu = 0;
  bool first = false;     ///< first_touch() of its page
  bool waited = false;    ///< a reader had its event
  bool stopping = false;  ///< the run was being stopped by then
};

/// Both ends of the longest fault so far, in ticks: its length in ns is that of its record, converted alike.
struct LongestFault {
  Ticks raised = 0, resumed = 0;

  void add(Ticks from, Ticks to) noexcept {
    if (to > from && to - from > resumed - raised) {
      raised = from;
      resumed = to;
    }
  }
};

/// The page has been touched. True when it is the first touch of a page that no page server of ours notes: the kernel brings it
/// in by itself (from swap, or without a userfaultfd), or an external handler does. A page that was resolved and
/// dropped while its sleeper was on its way back had its first touch.
inline bool first_touch(const PageRecord& pages, std::uint64_t page, std::uint8_t known, bool userfaultfd) noexcept {
  if (PageRecord::swapped_out(known)) return pages.swap_in(page);
  const PageState state = PageRecord::state_of(known);
  if (userfaultfd || (state != PageState::unresolved && state != PageState::discarded)) return false;
  if (!pages.claim(page, PageRecord::vcpu_claim())) return false;
  const bool again = pages.was_discarded(page);
  return pages.resolve(page) && !again;
}

class AccessAccount {
 public:
  explicit AccessAccount(const Books& books) noexcept
      : books_(books),
        state_(books.state),
        records_(books.records),
        checks_seeded_(books.verify != Verify::none && !books.contents.of_file()) {}

 protected:
  // relaxed: stage, page and counts are read by others as of a moment ago. A record is published by `slot`, to the reader of its
  // event, and by `faults`, once it is closed; a request by `request`. These three are stored with release order.
  static constexpr std::uint32_t kMostNoted = 255;  // of either kind of emulated operation in a record

  /// An access begins. `known`: its page's byte in the record; `due`: when an open loop wanted it, or 0.
  [[gnu::hot]] void begin(std::uint64_t page, std::uint8_t known, bool write, Ticks due) noexcept {
    under_way_ = true;
    page_ = page;
    known_ = known;
    write_ = write;
    due_ = due;
    raised_ = 0;
    when_raised_ = PageRecord::state_of(known);
    dropped_before_ = books_.dropped != nullptr && books_.dropped->dropped(page);
    attempt_ = installed_again_ = 0;
    emulated_exits_ = emulated_entries_ = 0;
    open_ = abandoned_ = resolved_here_ = populated_ = memory_error_ = false;
    state_.page.store(page, kRelaxed);
  }

  /// The record of the access raised at `raised_`, for a reader and the exits to write into.
  [[gnu::hot]] void open_record() noexcept {
    take_slot();
    slot_->delivered.store(0, kRelaxed);
    slot_->fetched.store(0, kRelaxed);
    slot_->installed.store(0, kRelaxed);
    slot_->page.store(static_cast<std::uint32_t>(page_), kRelaxed);
    state_.slot.store(slot_index_, std::memory_order_release);
    state_.stage.store(Stage::raised, kRelaxed);
  }
  /// The same where a guest has opened it, in this very slot, and a reader may have written into it since.
  void take_over_record() noexcept { take_slot(); }

  /// The access under way has paid for an emulated exit, or for an emulated stage-2 violation that makes none.
  [[gnu::hot]] void made_exit(Emulated by) noexcept {
    ++counters_[emulated_operation(by).counter];
    ++emulated_exits_;
  }
  [[gnu::hot]] void made_entry(Emulated by) noexcept {
    ++counters_[emulated_operation(by).counter];
    ++emulated_entries_;
  }

  /// `pages` of this mapping are resolved, `first` of them for the first time in any mapping of the guest.
  [[gnu::hot]] void count_resolved(std::uint64_t pages, std::uint64_t first) noexcept {
    state_.resolved_by_vcpu.store(resolved_ += pages, kRelaxed);
    state_.first_by_vcpu.store(first_ += first, kRelaxed);
  }

  bool delivered() const noexcept { return open_ && slot_->delivered.load(std::memory_order_acquire) != 0; }

  /// The touch is over; `base`: of the contents of its page. False: it was given up, or its word is wrong.
  [[gnu::hot]] bool close(const Touched& touched, std::uint64_t base) noexcept {
    under_way_ = false;
    // A run that is being stopped ends registration to wake its sleepers: what such a touch found counts as no resolve.
    if (open_ && touched.stopping && (books_.userfaultfd || books_.external) && slot_->installed.load(kRelaxed) == 0)
      abandoned_ = true;
    if (open_) close_record(touched);
    if (abandoned_ || memory_error_) return false;
    return check_word(page_, touched.value, base);
  }

  [[gnu::always_inline]] bool check_word(std::uint64_t page, std::uint64_t value, std::uint64_t base) noexcept {
    if (!checks_seeded_) [[unlikely]]
      return books_.verify == Verify::none || found_right(page, value, base, books_.contents.touched_value(page, base));
    return found_right(page, value, base, Contents::word(base, books_.contents.touched_word(base)));
  }

  [[gnu::always_inline]] bool found_right(std::uint64_t page, std::uint64_t value, std::uint64_t base,
                                          std::uint64_t expected) noexcept {
    // One that was dropped while it was touched may hold either.
    if (allows(books_.dropped, page, value, expected, dropped_before_)) [[likely]]
      return true;
    wrong_.add({1, page, books_.contents.touched_word(base), value});
    return false;
  }

  Books books_;
  VcpuState& state_;
  FaultRecord* records_;
  const bool checks_seeded_;  ///< each word, computed: one branch for all that is not so

  // The access under way.
  std::uint64_t page_ = 0;
  std::uint8_t known_ = 0;
  bool write_ = false;
  PageState when_raised_ = PageState::unresolved;
  bool under_way_ = false;  ///< there is one that is noted
  bool open_ = false;       ///< it has a record
  bool abandoned_ = false;
  bool dropped_before_ = false;  ///< it must read as zeros
  bool resolved_here_ = false;
  bool populated_ = false;
  bool memory_error_ = false;
  std::uint32_t attempt_ = 0;
  std::uint32_t installed_again_ = 0;
  std::uint32_t emulated_exits_ = 0, emulated_entries_ = 0;
  Ticks due_ = 0;
  Ticks raised_ = 0;
  FaultRecord* slot_ = nullptr;
  std::uint64_t slot_index_ = 0;

  // What has been counted so far.
  std::uint64_t done_ = 0;
  std::uint64_t faults_ = 0;
  std::uint64_t recorded_ = 0;
  std::uint64_t resolved_ = 0, first_ = 0;
  LongestFault longest_;
  WrongWord wrong_;
  Counters counters_;

 private:
  [[gnu::hot]] void take_slot() noexcept {
    open_ = true;
    // The slot after the last is the scratch slot: faults that are not sampled, or have no room, pass through it.
    const bool sampled = books_.sample_every == 1 || faults_ % books_.sample_every == 0;
    const bool room = recorded_ < books_.record_capacity;
    if (sampled && !room && books_.record_capacity != 0) ++counters_[Counter::records_dropped];  // 0: no record was asked for
    slot_index_ = sampled && room ? recorded_ : books_.record_capacity;
    slot_ = &records_[slot_index_];
    // The next fault's, a whole fault ahead: a store that misses is waited for by the kernel's next atomic instruction.
    __builtin_prefetch(slot_ + 1, 1);
    slot_->intended = due_;
    slot_->raised = raised_;
    slot_->exit = Exit::none;
  }

  [[gnu::hot]] void close_record(const Touched& touched) noexcept {
    slot_->resumed = touched.resumed;
    slot_->cpu = touched.cpu;
    slot_->write = write_;
    slot_->emulated_exits = static_cast<std::uint8_t>(emulated_exits_ < kMostNoted ? emulated_exits_ : kMostNoted);
    slot_->emulated_entries = static_cast<std::uint8_t>(emulated_entries_ < kMostNoted ? emulated_entries_ : kMostNoted);
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
      // Who touched it first has it counted.
      outcome = books_.external ? FaultOutcome::external : FaultOutcome::kernel;
      if (touched.first && when_raised_ == PageState::unresolved) count_resolved(1, books_.guest.first_resolved(page_));
    } else if (attempt_ == 0 && touched.waited) {
      outcome = FaultOutcome::waited;
    } else if (attempt_ == 0 && PageRecord::swapped_out(known_)) {
      if (!touched.first) return;  // another vCPU's touch has brought it in
      outcome = FaultOutcome::kernel;
    } else if (attempt_ == 0 && books_.exits) {
      return;  // no exit came: another vCPU resolved the page between our look at the record and the touch. Not a fault.
    }
    if (outcome == FaultOutcome::lost_race) ++counters_[Counter::lost_races];
    slot_->outcome = outcome;
    longest_.add(slot_->raised, slot_->resumed);
    if (slot_index_ != books_.record_capacity) ++recorded_;
    state_.faults.store(++faults_, std::memory_order_release);  // a reader of the count may read the record
  }
};

}  // namespace uffd
