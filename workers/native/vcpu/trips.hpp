// What a vCPU does when one of its accesses exits: the strategy decides, and the page is fetched, resolved, populated or given
// up.
#pragma once

#include <atomic>
#include <cstdint>

#include "guest/access_order.hpp"
#include "guest/guest.hpp"
#include "guest/page_run.hpp"
#include "kernel/clock.hpp"
#include "kernel/lock_counter.hpp"
#include "resolve/resolver.hpp"
#include "resolve/strategy.hpp"
#include "vcpu/access_account.hpp"
#include "vcpu/vmm_shared.hpp"

namespace uffd {

enum class Verdict {
  run_again,  ///< touch it again
  mapped,     ///< this vCPU has just installed or populated it: touch it, no need to look
  undecided,  ///< the strategy has to decide
  abandon,    ///< give the access up: a memory error, or the run is being stopped
};

class Trips : protected AccessAccount {
 public:
  Trips(const VmmShared& vmm, std::uint32_t index, FaultRecord* records, const AccessConfig& access);

  /// An exit has arrived for the access under way; `populate_error`: what MADV_POPULATE_WRITE returned, where that is how it came
  /// (Exit::populate). Called from the SIGBUS handler, at a touch and nowhere else, or by an engine between two exits.
  Verdict on_exit(Exit exit, int populate_error = Situation::kNotTried) noexcept;

  bool stopping() const noexcept { return vmm_.guest.stopping(); }

 protected:
  /// Gets contents. `present` of a run cut to what the page server has; `poisoned` when the first page wanted is; `failed`.
  RequestState fetch(std::uint64_t page, PageRun& run) noexcept;

  const VmmShared& vmm_;
  const Clock& clock_ = Clock::get();
  std::uint32_t index_;
  LockCounter locks_;

 private:
  Verdict resolve(std::uint64_t page) noexcept;
  Verdict resolve_again(std::uint64_t page) noexcept;
  Verdict resolve_blindly(std::uint64_t page) noexcept;
  /// Installs a run whose contents are here, without wake. True: every page of it is mapped. False: `verdict` is what to do.
  bool install(const PageRun& run, Known known, Installed& installed, Verdict& verdict) noexcept;
  RequestState ask(std::uint64_t page, PageRun& run, bool lost) noexcept;
  PageState state_now() const noexcept;
  /// Contents of a run around `page` are gone: has the page server make them again. False: the run is being stopped.
  bool refetch(std::uint64_t page, PageRun run) noexcept;
  Verdict fetch_and_populate(std::uint64_t page) noexcept;
  Verdict poison(std::uint64_t page) noexcept;  ///< lost at the source: poisons the claimed page here
  Verdict memory_error() noexcept;
  Verdict retry() noexcept;
  Verdict stopped() noexcept;
  int populate(std::uint64_t page) noexcept;  ///< the errno, 0: done
  void stamp(std::atomic<Ticks> FaultRecord::* stage) noexcept;
};

}  // namespace uffd
