#include "vcpu/verify.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <vector>

#include "guest/contents_present.hpp"
#include "guest/wrong_word.hpp"
#include "kernel/vocabulary.hpp"
#include "vcpu/signals.hpp"

namespace uffd {

namespace {

class Verification {
 public:
  Verification(const Guest& guest, const Mapping& region, const PageRecord& record, const Resident& resident,
               const DroppedPages* dropped)
      : guest_(guest),
        region_(region),
        record_(record),
        resident_(resident),
        dropped_(dropped),
        untouched_too_(guest.config().external && !guest.stopping()),
        page_bytes_(guest.config().page_bytes),
        expected_(guest.contents().of_file() ? page_bytes_ / sizeof(std::uint64_t) : 0) {}

  Verified run() {
    install_handlers();
    while (page_ < guest_.pages() && !guarded([](void* raw) { static_cast<Verification*>(raw)->read_on(); }, this)) {
      if (must_refuse())
        ++result_.poisoned;
      else
        wrong(page_bytes_ / 8,
              "page " + std::to_string(page_) + ": reading it raised SIGBUS" + (guest_.config().external ? kOfPoison : ""));
      ++page_;
    }
    if (failure_ != nullptr) std::rethrow_exception(failure_);
    return result_;
  }

 private:
  std::byte* at() const { return region_.data() + guest_.layout().offset(page_); }

  bool must_refuse() const {
    if (record_.state(page_) == PageState::poisoned) return true;
    return guest_.config().poisoned_when_resolved && guest_.kinds()[page_] == static_cast<std::uint8_t>(Kind::poisoned);
  }

  // Where a balloon was at work: reading such a page now would make a new one of zeros, for the registration has ended.
  bool gone() {
    if (!guest_.config().drops) return false;
    std::uint64_t entry = 0;
    const auto offset = static_cast<off_t>(reinterpret_cast<std::uint64_t>(at()) / kBasePageBytes * sizeof entry);
    if (::pread(pagemap_.get(), &entry, sizeof entry, offset) != sizeof entry) return false;
    if (entry >> 62 != 0) return false;  // mapped, or in swap
    return guest_.region_fd() < 0 || !contents_there(guest_, region_.data(), page_);
  }

  bool to_be_read() const { return record_.state(page_) == PageState::resolved || (untouched_too_ && resident_.has(page_)); }

  bool zeros(const std::uint64_t* words) const {
    return std::all_of(words, words + page_bytes_ / sizeof *words, [](std::uint64_t word) { return word == 0; });
  }

  /// Words of a snapshot's page. False: the snapshot cannot be read. Nothing may leave a guarded read by an exception.
  bool load_expected() noexcept {
    try {
      guest_.contents().fill(page_, expected_.data());
      return true;
    } catch (...) {
      failure_ = std::current_exception();
      return false;
    }
  }

  /// Words of the page that are wrong; `first` of them.
  std::uint64_t wrong_words(const std::byte* at, std::uint64_t& first) const {
    if (expected_.empty()) return guest_.contents().wrong_words(page_, at, first);
    const auto* words = reinterpret_cast<const std::uint64_t*>(at);
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < expected_.size(); ++i) wrong += words[i] != expected_[i];
    if (wrong != 0)
      first = static_cast<std::uint64_t>(std::mismatch(expected_.begin(), expected_.end(), words).first - expected_.begin());
    return wrong;
  }

  std::string looks_like(const std::uint64_t* words) const { return guest_.config().external && zeros(words) ? kOfZeros : ""; }

  void read_zeros(const std::uint64_t* words) {
    const std::uint64_t count = page_bytes_ / sizeof *words;
    ++result_.pages;
    for (std::uint64_t i = 0; i < count; ++i)
      if (words[i] != 0) return wrong(1, describe_word_of_dropped(page_, i, words[i]));
  }

  void wrong(std::uint64_t words, const std::string& what) {
    if (result_.wrong_words == 0) result_.first_wrong = what;
    result_.wrong_words += words;
  }

  // Until the end, or until a page refuses to be read and a SIGBUS cuts it short.
  void read_on() {
    for (; page_ < guest_.pages(); ++page_) {
      const bool refuses = must_refuse();
      if (!refuses && !to_be_read()) continue;
      if (!refuses && gone()) {
        ++result_.gone;
        continue;
      }
      const std::byte* at = this->at();
      std::uint64_t first = 0;
      if (dropped_ != nullptr && dropped_->dropped(page_)) {
        read_zeros(reinterpret_cast<const std::uint64_t*>(at));
        continue;
      }
      if (!expected_.empty() && !load_expected()) return;
      const std::uint64_t words = wrong_words(at, first);
      if (refuses) {
        wrong(page_bytes_ / 8, "page " + std::to_string(page_) + ": poisoned, and it can be read");
        continue;
      }
      ++result_.pages;
      if (words != 0)
        wrong(words, describe_wrong_word(page_, first, reinterpret_cast<const std::uint64_t*>(at)[first],
                                         expected_.empty() ? guest_.contents().expected(page_, first) : expected_[first]) +
                         looks_like(reinterpret_cast<const std::uint64_t*>(at)));
    }
  }

  const Guest& guest_;
  const Mapping& region_;
  const PageRecord& record_;
  const Resident& resident_;
  const DroppedPages* dropped_;
  const bool untouched_too_;
  const std::uint64_t page_bytes_;
  const Descriptor pagemap_{::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)};
  std::uint64_t page_ = 0;
  std::vector<std::uint64_t> expected_;  ///< of the page, of a snapshot; empty: the contents are seeded
  std::exception_ptr failure_;
  Verified result_;
};

}  // namespace

Verified verify_region(const Guest& guest, const Mapping& region, const PageRecord& record, const Resident& resident,
                       const DroppedPages* dropped) {
  const auto begin = std::chrono::steady_clock::now();
  Verified verified = Verification(guest, region, record, resident, dropped).run();
  verified.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return verified;
}

}  // namespace uffd
