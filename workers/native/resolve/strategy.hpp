// A strategy is a pure decision: what is known of the page, and how the last try ended -> what to do next. It touches
// nothing; the engine touches and exits, the resolver installs. Each lives in one file of strategies/ and registers itself.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "guest/page_record.hpp"
#include "kernel/mapping.hpp"

namespace uffd {

/// How a vCPU under this strategy comes back to user space.
enum class ExitKind {
  none,      ///< it does not: it sleeps, or the kernel maps the page by itself
  signal,    ///< handle_userfault() refuses to sleep and the access fails: UFFD_FEATURE_SIGBUS
  probe,     ///< fast GUP only, emulated: a stage-2 table of ours, and the page's PTE asked for in pagemap
  populate,  ///< slow GUP without the sleep: a stage-2 table of ours, and MADV_POPULATE_WRITE on a SIGBUS mapping
};
const char* exit_kind_name(ExitKind kind);

/// What is known when a vCPU has exited.
struct Situation {
  PageState when_raised;  ///< the page record when the access was raised
  PageState now;          ///< the page record now
  MemoryType memory;
  std::uint32_t attempt;              ///< exits of this access so far, this one included
  int populate_error = kNotTried;     ///< what MADV_POPULATE_WRITE returned on this exit: an errno
  std::uint32_t installed_again = 0;  ///< exits of this access that found a resolved page mapped, or mapped it, and did not help
  bool drops_announced = false;       ///< no page is taken away without a remove event

  static constexpr int kNotTried = -1;
};

enum class Action {
  resolve,             ///< get the contents if they are not here, install the page without wake, run again
  resolve_again,       ///< resolved before, contents still here, PTE blank (reclaimed shmem): install it once more
  populate,            ///< MADV_POPULATE_WRITE: let slow GUP run on our behalf, then run again
  fetch_and_populate,  ///< get the contents if they are not here, then populate without resolving
  retry,               ///< in flight on another thread, or just settled: run again
  memory_error,        ///< the guest gets a memory error
};

/// What a guest's memory is before its first access, and who brings it.
enum class Restore {
  on_demand,  ///< page by page as they are touched
  eager,      ///< all of it is brought in and mapped before the first access, within the clock
  file_map,   ///< the vCPUs' mapping is a private one of the snapshot file
};
const char* restore_name(Restore restore);

class Strategy {
 public:
  virtual ~Strategy() = default;
  virtual Action decide(const Situation& situation) const noexcept = 0;
  /// How vCPUs come back, where an option decides it; `usual` is the registry's.
  virtual ExitKind exit(ExitKind usual) const noexcept { return usual; }
};

/// What an option is for, where code besides the strategy itself reads it.
enum class OptionRole {
  none,
  fault_around,  ///< pages resolved with each fault
  populate,      ///< pages brought in and mapped at a time before the first access
  page_record,   ///< what an exit goes by: the page record, or EEXIST alone (kEexistOnly)
};
const char* option_role_name(OptionRole role);

struct Option {
  std::string name;  ///< with its unit
  std::int64_t initial;
  std::int64_t minimum;
  std::int64_t maximum;
  std::string help;
  std::vector<std::string> choices = {};  ///< names of the values 0, 1, ...; empty: a number
  OptionRole role = OptionRole::none;
};
using Options = std::map<std::string, std::int64_t>;

struct StrategyInfo {
  std::string name;
  std::string summary;
  ExitKind exit = ExitKind::none;
  bool userfaultfd = true;
  bool kernel_faults = false;  ///< waits for faults that the kernel takes itself, not a user-mode access
  Restore restore = Restore::on_demand;
  std::uint64_t features = 0;  ///< beyond those the memory type needs
  std::vector<MemoryType> memory;
  std::vector<Option> options;
  std::unique_ptr<Strategy> (*make)(const Options&) = nullptr;

  /// The value in complete `options` of the option in this role; `otherwise` where the strategy has none.
  std::int64_t value_of(OptionRole role, const Options& options, std::int64_t otherwise) const;
};

/// Every strategy of this build, by name.
const std::map<std::string, StrategyInfo>& strategies();
/// Throws ConfigError with the list of names.
const StrategyInfo& strategy_info(const std::string& name);
/// `given` over the defaults of the `options` of `owner` (strategy NAME, engine NAME). Throws ConfigError: unknown option, value
/// out of range.
Options complete_options(const std::string& owner, const std::vector<Option>& options, const Options& given);
/// The strategy's options with `given` over its defaults.
Options complete_options(const StrategyInfo& info, const Options& given);

/// A file of strategies/ holds one of these.
struct RegisterStrategy {
  explicit RegisterStrategy(StrategyInfo info);
};

/// The option every resolving strategy has.
Option fault_around_option();
/// What an exit strategy goes by: its own record of what it resolved, or EEXIST alone.
Option page_record_option();
inline constexpr std::int64_t kEexistOnly = 1;

}  // namespace uffd
