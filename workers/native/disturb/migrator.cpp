// The migrator: has the kernel move guest pages to other frames. On one NUMA node compaction does that, and it dries up: so
// memory is fragmented before each round (a stretch is filled and every other page of it given back, as the holes that
// compaction moves pages into). It moves pages to the top of memory only, the lowest first: when a round has moved none of the
// guest's, or took too long (it is the whole machine's, and waits for pages that are written back), the memory block that holds
// most of them is taken offline and brought back, as a host does that gives memory away. Where there are several nodes,
// move_pages moves them to and fro. A guest page that has another frame afterwards, in pagemap, has been moved; nothing else
// counts.
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>

#include "disturb/disturbance.hpp"
#include "guest/access_order.hpp"
#include "kernel/error.hpp"
#include "kernel/mapping.hpp"
#include "kernel/memory_block.hpp"
#include "kernel/numa.hpp"
#include "kernel/shell.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {
namespace {

constexpr std::uint64_t kFrame = (1ull << 55) - 1;
constexpr std::uint64_t kPresent = 1ull << 63;
constexpr const char* kCompact = "timeout -s KILL 1 sh -c 'echo 1 >/proc/sys/vm/compact_memory'";
constexpr std::uint64_t kBatch = 64;  // pages of one move_pages

class Migrator final : public Disturbance {
 public:
  Migrator(const MigratorConfig& config, const Scene& scene)
      : config_(config), scene_(scene), nodes_(nodes_with_memory()), random_(scene.guest.config().seed + 277) {
    pagemap_ = Descriptor(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    if (!pagemap_.valid()) throw KernelError("open of /proc/self/pagemap", errno);
    if (nodes_.size() > 1) return;
    if (::access("/proc/sys/vm/compact_memory", W_OK) != 0) throw KernelError("access to /proc/sys/vm/compact_memory", errno);
  }

  const char* role() const override { return "migrator"; }
  double rate_per_s() const override { return config_.rate_per_s; }

  // A unit is a page; a round moves as many as it does, so it is due when the pages moved so far are behind.
  void work(std::uint32_t, Disturber& me) override {
    std::vector<std::uint64_t> before = frames(), after;
    Mapping held;
    std::uint64_t due = 0;
    while (me.next()) {
      if (++due <= me.done) continue;
      due = std::min(due, me.done + 1);
      if (nodes_.size() > 1) {
        move_some();
      } else {
        fragment(held);
        if (run_script(kCompact, {})) ++me.counters[Counter::compactions];
      }
      after = frames();
      if (nodes_.size() <= 1 && moved(before, after).empty() && unplug_fullest(after)) {
        ++me.counters[Counter::blocks_offlined];
        after = frames();
      }
      for (const std::uint64_t page : moved(before, after)) {
        scene_.vcpus.record.leave_stage2(page);  // KVM's MMU notifier does it when the kernel takes the old frame away
        ++me.counters[Counter::pages_migrated];
        ++me.done;
      }
      before.swap(after);
    }
  }

 private:
  /// The pagemap entry of each page of the region.
  std::vector<std::uint64_t> frames() const {
    const PageLayout& layout = scene_.guest.layout();
    std::vector<std::uint64_t> entries(layout.span_bytes() / kBasePageBytes);
    const auto offset =
        static_cast<off_t>(reinterpret_cast<std::uint64_t>(scene_.vcpus.region) / kBasePageBytes * sizeof(std::uint64_t));
    const auto wanted = static_cast<ssize_t>(entries.size() * sizeof(std::uint64_t));
    if (::pread(pagemap_.get(), entries.data(), static_cast<std::size_t>(wanted), offset) != wanted)
      throw KernelError("pread of /proc/self/pagemap", errno, reinterpret_cast<std::uint64_t>(scene_.vcpus.region));
    for (std::uint64_t page = 0; page < scene_.guest.pages(); ++page)
      entries[page] = entries[layout.offset(page) / kBasePageBytes];
    entries.resize(scene_.guest.pages());
    return entries;
  }

  static std::vector<std::uint64_t> moved(const std::vector<std::uint64_t>& before, const std::vector<std::uint64_t>& after) {
    std::vector<std::uint64_t> pages;
    for (std::uint64_t page = 0; page < after.size(); ++page)
      if (((before[page] & after[page]) & kPresent) != 0 && ((before[page] ^ after[page]) & kFrame) != 0) pages.push_back(page);
    return pages;
  }

  /// Of the blocks that have not refused yet. False when there is none, or it refuses.
  bool unplug_fullest(const std::vector<std::uint64_t>& entries) {
    const std::uint64_t block_frames = memory_block_bytes() / kBasePageBytes;
    if (block_frames == 0) return false;
    std::map<std::uint64_t, std::uint64_t> pages;
    for (const std::uint64_t entry : entries)
      if ((entry & kPresent) != 0) ++pages[(entry & kFrame) / block_frames];
    for (const std::uint64_t block : refused_) pages.erase(block);
    const auto fullest = std::max_element(pages.begin(), pages.end(), [](auto& a, auto& b) { return a.second < b.second; });
    if (fullest == pages.end()) return false;
    if (take_offline_and_back(fullest->first)) return true;
    refused_.insert(fullest->first);
    return false;
  }

  void fragment(Mapping& held) const {
    const std::uint64_t bytes = std::uint64_t{config_.fragment_mib} << 20;
    Mapping fresh = Mapping::anonymous(bytes, kBasePageBytes);
    fresh.advise(MADV_NOHUGEPAGE, "madvise MADV_NOHUGEPAGE");
    fresh.advise(MADV_POPULATE_WRITE, "madvise MADV_POPULATE_WRITE of memory to fragment");
    held = std::move(fresh);  // the last round's goes only now, so that this one lies elsewhere
    for (std::uint64_t at = 0; at < bytes; at += 2 * kBasePageBytes) ::madvise(held.data() + at, kBasePageBytes, MADV_DONTNEED);
  }

  void move_some() {
    std::vector<void*> pages;
    std::vector<int> to, status(kBatch);
    const int node = nodes_[turn_++ % nodes_.size()];
    for (std::uint64_t i = 0; i < kBatch; ++i) {
      pages.push_back(scene_.vcpus.at(scene_.guest, random_.below(scene_.guest.pages())));
      to.push_back(node);
    }
    constexpr int kMoveAll = 4;  // MPOL_MF_MOVE_ALL: pages that other processes map too
    if (::syscall(SYS_move_pages, 0, pages.size(), pages.data(), to.data(), status.data(), kMoveAll) < 0)
      throw KernelError("move_pages", errno);
  }

  MigratorConfig config_;
  Scene scene_;
  std::vector<int> nodes_;
  Random random_;
  Descriptor pagemap_;
  std::set<std::uint64_t> refused_;  // memory blocks: what is in them now will not move later either
  std::size_t turn_ = 0;
};

}  // namespace

std::unique_ptr<Disturbance> make_migrator(const DisturbConfig& config, const Scene& scene) {
  if (config.migrator.rate_per_s <= 0.0 || scene.vmm != 0) return nullptr;  // compaction is the whole machine's: one is enough
  return std::make_unique<Migrator>(config.migrator, scene);
}

}  // namespace uffd
