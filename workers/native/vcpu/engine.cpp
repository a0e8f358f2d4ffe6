#include "vcpu/engine.hpp"

#include "kernel/error.hpp"

namespace uffd {

namespace {

std::map<std::string, EngineInfo>& registry() {
  static std::map<std::string, EngineInfo> all;
  return all;
}

}  // namespace

const std::map<std::string, EngineInfo>& engines() { return registry(); }

const EngineInfo& engine_info(const std::string& name) {
  const auto found = registry().find(name);
  if (found != registry().end()) return found->second;
  std::string names;
  for (const auto& [known, info] : registry()) names += (names.empty() ? "" : ", ") + known;
  throw ConfigError("engine '" + name + "' is unknown; it is one of " + names);
}

RegisterEngine::RegisterEngine(EngineInfo info) { registry().emplace(info.name, std::move(info)); }

}  // namespace uffd
