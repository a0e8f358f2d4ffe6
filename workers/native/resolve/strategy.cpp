#include "resolve/strategy.hpp"

#include "kernel/error.hpp"

namespace uffd {

namespace {

std::map<std::string, StrategyInfo>& registry() {
  static std::map<std::string, StrategyInfo> all;
  return all;
}

}  // namespace

const char* exit_kind_name(ExitKind kind) {
  switch (kind) {
    case ExitKind::none: return "none";
    case ExitKind::signal: return "signal";
    case ExitKind::probe: return "probe";
    case ExitKind::populate: return "populate";
  }
  return "";
}

const char* restore_name(Restore restore) {
  switch (restore) {
    case Restore::on_demand: return "on_demand";
    case Restore::eager: return "eager";
    case Restore::file_map: return "file_map";
  }
  return "";
}

const char* option_role_name(OptionRole role) {
  switch (role) {
    case OptionRole::none: return "";
    case OptionRole::fault_around: return "fault_around";
    case OptionRole::populate: return "populate";
    case OptionRole::page_record: return "page_record";
  }
  return "";
}

std::int64_t StrategyInfo::value_of(OptionRole role, const Options& given, std::int64_t otherwise) const {
  for (const Option& option : options)
    if (option.role == role) return given.at(option.name);
  return otherwise;
}

const std::map<std::string, StrategyInfo>& strategies() { return registry(); }

const StrategyInfo& strategy_info(const std::string& name) {
  const auto found = registry().find(name);
  if (found != registry().end()) return found->second;
  std::string names;
  for (const auto& [known, info] : registry()) names += (names.empty() ? "" : ", ") + known;
  throw ConfigError("strategy '" + name + "' is unknown; it is one of " + names);
}

Options complete_options(const std::string& owner, const std::vector<Option>& options, const Options& given) {
  Options all;
  for (const Option& option : options) all[option.name] = option.initial;
  for (const auto& [name, value] : given) {
    if (!all.contains(name)) throw ConfigError(owner + " has no option '" + name + "'");
    all[name] = value;
  }
  for (const Option& option : options)
    if (all[option.name] < option.minimum || all[option.name] > option.maximum)
      throw ConfigError(owner.substr(0, owner.find(' ')) + "." + option.name + "=" + std::to_string(all[option.name]) +
                        " is outside " + std::to_string(option.minimum) + " to " + std::to_string(option.maximum));
  return all;
}

Options complete_options(const StrategyInfo& info, const Options& given) {
  return complete_options("strategy " + info.name, info.options, given);
}

RegisterStrategy::RegisterStrategy(StrategyInfo info) { registry().emplace(info.name, std::move(info)); }

Option page_record_option() {
  return {"page_record",
          0,
          0,
          1,
          "what a VMM decides by: its own page record, or EEXIST only (which un-poisons pages)",
          {"bitmap", "eexist_only"},
          OptionRole::page_record};
}

Option fault_around_option() {
  return {"fault_around_pages",
          1,
          1,
          512,
          "pages resolved with each fault: the aligned block around it, as far as its pages are free",
          {},
          OptionRole::fault_around};
}

}  // namespace uffd
