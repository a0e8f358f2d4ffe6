// The decisions themselves: pure, so every line of the lists can be asked.
#include <cerrno>

#include "check.hpp"
#include "kernel/error.hpp"
#include "resolve/strategy.hpp"

using namespace uffd;

namespace {

Action decide(const char* name, Situation situation) {
  const StrategyInfo& info = strategy_info(name);
  return info.make(complete_options(info, {}))->decide(situation);
}

constexpr int kNotTried = Situation::kNotTried;

Situation seen(PageState raised, PageState now, std::uint32_t attempt = 1, int populate_error = kNotTried,
               MemoryType memory = MemoryType::anon) {
  return {.when_raised = raised, .now = now, .memory = memory, .attempt = attempt, .populate_error = populate_error};
}

constexpr auto kUnresolved = PageState::unresolved;
constexpr auto kInFlight = PageState::in_flight;
constexpr auto kResolved = PageState::resolved;

}  // namespace

TEST("both exit strategies resolve what is not resolved, retry what is in flight, and refuse what is poisoned") {
  for (const char* name : {"no_uffd_wait", "no_slow_gup"}) {
    CHECK(decide(name, seen(kUnresolved, kUnresolved)) == Action::resolve);
    CHECK(decide(name, seen(kUnresolved, PageState::discarded)) == Action::resolve);
    CHECK(decide(name, seen(kUnresolved, kInFlight)) == Action::retry);
    CHECK(decide(name, seen(kUnresolved, kResolved)) == Action::retry);
    CHECK(decide(name, seen(kResolved, PageState::poisoned)) == Action::memory_error);
  }
}

TEST("no_slow_gup populates what was resolved before, and a failed populate is a memory error") {
  CHECK(decide("no_slow_gup", seen(kResolved, kResolved)) == Action::populate);
  CHECK(decide("no_slow_gup", seen(kResolved, kResolved, 1, EHWPOISON)) == Action::memory_error);
}

TEST("no_uffd_wait asks the kernel before it resolves a second time, and never un-poisons a page") {
  for (const MemoryType memory : {MemoryType::anon, MemoryType::shmem}) {
    CHECK(decide("no_uffd_wait", seen(kResolved, kResolved, 1, kNotTried, memory)) == Action::populate);
    CHECK(decide("no_uffd_wait", seen(kResolved, kResolved, 1, EHWPOISON, memory)) == Action::memory_error);
  }
  CHECK(decide("no_uffd_wait", seen(kResolved, kResolved, 1, EFAULT)) == Action::memory_error);
  CHECK(decide("no_uffd_wait", seen(kResolved, kResolved, 1, EFAULT, MemoryType::shmem)) == Action::resolve_again);
}

TEST(
    "no_uffd_wait gives a reclaimed page up only after mapping it did not help, however many exits were spent on others' races") {
  Situation situation = seen(kResolved, kResolved, 100, EFAULT, MemoryType::shmem);
  CHECK(decide("no_uffd_wait", situation) == Action::resolve_again);
  situation.installed_again = 100;
  CHECK(decide("no_uffd_wait", situation) == Action::memory_error);
}

TEST("a page that is refused and resolved again since is no memory error to no_uffd_wait where drops are announced") {
  for (const MemoryType memory : {MemoryType::anon, MemoryType::shmem}) {
    Situation situation = seen(kResolved, kResolved, 1, EFAULT, memory);
    situation.installed_again = 100;
    CHECK(decide("no_uffd_wait", situation) == Action::memory_error);
    situation.drops_announced = true;
    CHECK(decide("no_uffd_wait", situation) == Action::retry);
    situation.populate_error = EHWPOISON;
    CHECK(decide("no_uffd_wait", situation) == Action::memory_error);
  }
}

TEST("a page resolved between the touch and the look at the record is a lost race, once") {
  for (const char* name : {"no_uffd_wait", "no_slow_gup"}) {
    CHECK(decide(name, seen(kUnresolved, kResolved)) == Action::retry);
    CHECK(decide(name, seen(kUnresolved, kResolved, 2)) == Action::populate);
  }
}

TEST("populate never resolves: it gets the contents and lets the kernel's own fault loop back") {
  CHECK(decide("populate", seen(kUnresolved, kUnresolved)) == Action::fetch_and_populate);
  CHECK(decide("populate", seen(kResolved, kResolved)) == Action::populate);
  CHECK(decide("populate", seen(kResolved, kResolved, 1, EHWPOISON)) == Action::memory_error);
  CHECK(decide("populate", seen(kResolved, PageState::poisoned)) == Action::memory_error);
}

TEST("uffd_wait comes back for poison only") {
  CHECK(decide("uffd_wait", seen(kUnresolved, PageState::poisoned)) == Action::memory_error);
  CHECK(decide("uffd_wait", seen(kResolved, kResolved)) == Action::populate);
  CHECK(decide("uffd_wait", seen(kResolved, kResolved, 1, EHWPOISON)) == Action::memory_error);
  CHECK(decide("uffd_wait", seen(kUnresolved, kUnresolved)) == Action::retry);
}

TEST("an unknown strategy or option is refused with what there is") {
  const auto refusal = [](auto&& call) {
    try {
      call();
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(refusal([] { strategy_info("nope"); }).find("no_slow_gup, no_uffd_wait, null, populate, uffd_wait") != std::string::npos);
  CHECK(refusal([] { complete_options(strategy_info("uffd_wait"), {{"around", 1}}); }).find("no option 'around'") !=
        std::string::npos);
  CHECK(refusal([] { complete_options(strategy_info("uffd_wait"), {{"fault_around_pages", 0}}); }).find("outside 1 to 512") !=
        std::string::npos);
}
