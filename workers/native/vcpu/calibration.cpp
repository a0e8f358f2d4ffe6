#include "vcpu/calibration.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

#include "guest/page_record.hpp"
#include "kernel/clock.hpp"
#include "kernel/error.hpp"
#include "kernel/userfaultfd.hpp"
#include "kernel/vocabulary.hpp"
#include "resolve/emulation.hpp"
#include "vcpu/signals.hpp"
#include "vcpu/touch.hpp"

namespace uffd {

namespace {

constexpr std::uint64_t kPages = 1024;  // as many PTEs as fill two page tables; enough for every batch to have pages of its own
constexpr std::size_t kBatch = 16;
constexpr std::size_t kBatches = 20;  // of each kind: three kinds walk 960 of the pages

double at_rank(std::vector<double>& values, std::size_t rank) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(rank), values.end());
  return values[rank];
}

Cost cost_of(std::vector<double>& batches) {
  if (batches.empty()) return {};
  const std::size_t count = batches.size();
  return {std::max(at_rank(batches, count / 2), 0.0), at_rank(batches, count * 3 / 4) - at_rank(batches, count / 4)};
}

// A walk over many pages leaves little of a fault's lines in the caches when the next fault comes: an operation that is repeated
// on warm lines costs two thirds of what it costs there. So each batch begins after as many other lines were read as the walk has
// beyond what the second-level cache holds.
class ColdCaches {
 public:
  explicit ColdCaches(std::uint64_t pages) : lines_(bytes_beyond(pages * kBytesOfAPage), 1) {}
  void enter() noexcept {
    const volatile char* lines = lines_.data();
    for (std::size_t at = 0; at < lines_.size(); at += 64) seen_ = static_cast<char>(seen_ + lines[at]);
  }

 private:
  // A word of its contents, struct page, PTE, a fault record, and what the kernel keeps of its resolve: measured on 6.18.
  static constexpr std::uint64_t kBytesOfAPage = 320;

  static std::uint64_t bytes_beyond(std::uint64_t walk) noexcept {
    constexpr long kUsual = 2 << 20, kMost = 8 << 20;
    const long known = ::sysconf(_SC_LEVEL2_CACHE_SIZE);
    const auto cache = static_cast<std::uint64_t>(known <= 0 ? kUsual : std::min(known, kMost));
    return walk <= cache ? 0 : std::min(walk - cache, cache * 3 / 2);
  }
  std::vector<char> lines_;
  char seen_ = 0;
};

/// Pages as exits of a guest find them: missing in anonymous memory, in the page cache and not mapped in the others.
class Arena {
 public:
  Arena(MemoryType memory, bool refuses) : anon_(memory == MemoryType::anon), huge_(memory == MemoryType::hugetlb) {
    const std::uint64_t bytes = pages() * page_bytes();
    std::uint64_t features = refuses ? UFFD_FEATURE_SIGBUS : 0;
    if (anon_) {
      contents_.resize(kBasePageBytes);
      mapping_ = Mapping::anonymous(bytes, kBasePageBytes);
    } else {
      const Descriptor fd = make_memfd("uffd-loadgen-calibration", bytes, huge_);
      const Mapping alias = Mapping::shared(fd.get(), bytes);
      for (std::uint64_t page = 0; page < pages(); ++page) alias.data()[page * page_bytes()] = std::byte{1};
      mapping_ = Mapping::shared(fd.get(), bytes);
      features |= huge_ ? UFFD_FEATURE_MINOR_HUGETLBFS : UFFD_FEATURE_MINOR_SHMEM;
    }
    uffd_.emplace(features);
    uffd_->register_range(mapping_.address(), bytes, anon_ ? UFFDIO_REGISTER_MODE_MISSING : UFFDIO_REGISTER_MODE_MINOR);
    order_.resize(pages());
    std::iota(order_.begin(), order_.end(), 0);
    std::shuffle(order_.begin(), order_.end(), std::mt19937_64(1));
    record_bytes_ = std::vector<std::atomic<std::uint8_t>>(pages());
  }

  std::uint64_t pages() const noexcept { return huge_ ? 1 : kPages; }
  std::uint64_t page_bytes() const noexcept { return huge_ ? kHugePageBytes : kBasePageBytes; }
  /// Pages are walked once in random order between two rearm(); one huge page is rearmed each time.
  std::uint64_t next() {
    if (huge_) rearm();
    const std::uint64_t page = order_[at_];
    at_ = (at_ + 1) % order_.size();
    return page;
  }
  void rearm() const { mapping_.advise(MADV_DONTNEED, "MADV_DONTNEED"); }
  std::byte* at(std::uint64_t page) const noexcept { return mapping_.data() + page * page_bytes(); }
  std::uint64_t page_of(const std::byte* address) const noexcept {
    return static_cast<std::uint64_t>(address - mapping_.data()) / page_bytes();
  }
  /// The errno, 0: the page is mapped, for reading only where it is anonymous: an allocation would drown what is measured.
  int install(std::uint64_t page) noexcept {
    const auto to = reinterpret_cast<std::uint64_t>(at(page));
    return anon_ ? uffd_->zeropage(to, page_bytes(), false).error : uffd_->resume(to, page_bytes(), false).error;
  }
  /// The same, for writing too.
  int install_whole(std::uint64_t page) noexcept {
    if (!anon_) return install(page);
    const auto to = reinterpret_cast<std::uint64_t>(at(page));
    return uffd_->copy(to, reinterpret_cast<std::uint64_t>(contents_.data()), page_bytes(), false).error;
  }
  PageRecord record() noexcept { return PageRecord(record_bytes_.data()); }

 private:
  bool anon_, huge_;
  Mapping mapping_;
  std::vector<std::byte> contents_;
  std::optional<Userfaultfd> uffd_;
  std::vector<std::uint32_t> order_;
  std::size_t at_ = 0;
  std::vector<std::atomic<std::uint8_t>> record_bytes_;
};

class Calibrator {
 public:
  Calibrator(ExitKind kind, MemoryType memory, std::uint64_t pages)
      : by_(emulated_by(kind)), arena_(memory, kind != ExitKind::probe), refused_(&Calibrator::on_refused, this), caches_(pages) {
    if (kind == ExitKind::probe) open_pagemap();
    install_handlers();
  }
  ~Calibrator() { close_pagemap(); }
  Calibrator(const Calibrator&) = delete;
  Calibrator& operator=(const Calibrator&) = delete;

  Calibration run() {
    Calibration found;
    arena_.rearm();
    const std::array exits =
        costs({{&Calibrator::install, &Calibrator::exit, &Calibrator::refuse_and_install}}, by_.exit == Emulated::signal ? 3 : 2);
    found.exit = exits[0];
    found.slow_gup = by_.exit == Emulated::populate_refused ? found.exit : exits[1];
    found.arrival_ns = static_cast<double>(Clock::get().to_ns(static_cast<Ticks>(at_rank(arrivals_, arrivals_.size() / 2))));
    if (by_.entry == Emulated::count) return found;
    arena_.rearm();
    for (std::uint64_t page = 0; page < arena_.pages(); ++page) {
      if (const int error = arena_.install_whole(page); error != 0)
        throw KernelError("calibration: a page was not installed", error);
      arena_.record().resolve_unasked(page);
    }
    found.entry = costs({{&Calibrator::mapped, &Calibrator::enter}}, 2)[0];
    return found;
  }

 private:
  using Before = void (Calibrator::*)(std::uint64_t page) noexcept;

  /// What the second and the third of `befores` cost beyond the first. They take turns in an order of its own each round, or what
  /// comes round in the kernel (the page allocator refills its lists every 63 pages) would always fall on the same one.
  std::array<Cost, 2> costs(const std::array<Before, 3>& befores, std::size_t count) {
    std::array<std::size_t, 3> turns{0, 1, 2};
    std::array<std::vector<double>, 2> beyond;
    std::mt19937 random(1);
    for (std::size_t round = 0; round < kBatches; ++round) {
      std::array<double, 3> took{};
      std::shuffle(turns.begin(), turns.begin() + static_cast<std::ptrdiff_t>(count), random);
      for (std::size_t turn = 0; turn < count; ++turn) took[turns[turn]] = batch(befores[turns[turn]]);
      for (std::size_t i = 1; i < count; ++i) beyond[i - 1].push_back(took[i] - took[0]);
    }
    return {cost_of(beyond[0]), cost_of(beyond[1])};
  }

  /// Thread CPU time of an access to a page that `before` has worked on, in ns.
  double batch(Before before) {
    caches_.enter();
    const std::uint64_t began = thread_cpu_ns();
    for (std::size_t i = 0; i < kBatch; ++i) {
      const std::uint64_t page = arena_.next();
      (this->*before)(page);
      if (error_ != 0) throw KernelError("calibration: a page was not in the state an emulated operation needs", error_);
      touch_read(reinterpret_cast<const std::uint64_t*>(arena_.at(page)));
    }
    const double ns = static_cast<double>(thread_cpu_ns() - began) / static_cast<double>(kBatch);
    if (error_ != 0) throw KernelError("calibration: a page was not installed", error_);
    return ns;
  }

  void install(std::uint64_t page) noexcept {
    if (const int error = arena_.install(page); error != 0) error_ = error;
  }
  /// One huge page is unmapped before each access: here it is to be there.
  void mapped(std::uint64_t page) noexcept {
    if (arena_.pages() == 1) install(page);
  }
  void exit(std::uint64_t page) noexcept {
    raised_ = Clock::get().now();
    if (by_.exit == Emulated::signal) return;  // the touch itself, and on_refused()
    if (by_.exit == Emulated::populate_refused)
      refuse(page);
    else if (present(arena_.at(page)))
      error_ = EEXIST;
    arrivals_.push_back(static_cast<double>(Clock::get().now() - raised_));
    install(page);
  }
  void refuse(std::uint64_t page) noexcept {
    if (populate(arena_.at(page), arena_.page_bytes()) == 0) error_ = EEXIST;
  }
  void refuse_and_install(std::uint64_t page) noexcept {
    refuse(page);
    install(page);
  }
  void enter(std::uint64_t page) noexcept {
    mapped(page);
    const std::byte* at = arena_.at(page);
    if (by_.entry == Emulated::probe_found ? !present(at) : populate(arena_.at(page), arena_.page_bytes()) != 0) error_ = ENOENT;
    arena_.record().enter_stage2(page);
  }
  static bool on_refused(void* self, std::byte* at) noexcept {
    auto& calibrator = *static_cast<Calibrator*>(self);
    calibrator.arrivals_.push_back(static_cast<double>(Clock::get().now() - calibrator.raised_));
    calibrator.install(calibrator.arena_.page_of(at));
    return calibrator.error_ == 0;
  }

  EmulatedBy by_;
  Arena arena_;
  RefusedTouches refused_;
  ColdCaches caches_;
  Ticks raised_ = 0;
  std::vector<double> arrivals_ = reserved();
  int error_ = 0;

  /// A signal handler writes into it.
  static std::vector<double> reserved() {
    std::vector<double> empty;
    empty.reserve(kBatch * kBatches);
    return empty;
  }
};

}  // namespace

Calibration calibrate(ExitKind kind, MemoryType memory, std::uint64_t pages) {
  if (kind == ExitKind::none || memory == MemoryType::file) return {};
  return Calibrator(kind, memory, pages).run();
}

}  // namespace uffd
