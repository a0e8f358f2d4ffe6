#include "kernel/memory_block.hpp"

#include <unistd.h>

#include <fstream>
#include <string>

#include "kernel/shell.hpp"

namespace uffd {

namespace {

const std::string kFolder = "/sys/devices/system/memory/";

std::string first_word(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

// A signal ends the kernel's tries to move what it cannot. It comes back into the zone it was in.
constexpr const char* kScript =
    "trap '' INT TERM HUP\n"
    "timeout 2 sh -c 'echo offline >\"$0\"' \"$1\" 2>/dev/null\n"
    "read -r state <\"$1\"\n"
    "test \"$state\" = offline && echo \"$2\" >\"$1\"";

}  // namespace

std::uint64_t memory_block_bytes() {
  const std::string size = first_word(kFolder + "block_size_bytes");
  if (size.empty() || ::access((kFolder + "memory0/state").c_str(), W_OK) != 0) return 0;
  if (first_word("/proc/sys/vm/nr_hugepages") != "0") return 0;
  return std::stoull(size, nullptr, 16);
}

bool take_offline_and_back(std::uint64_t block) {
  const std::string folder = kFolder + "memory" + std::to_string(block) + "/";
  const std::string state = folder + "state";
  const char* back = first_word(folder + "valid_zones") == "Movable" ? "online_movable" : "online_kernel";
  return run_script(kScript, {state, back});
}

}  // namespace uffd
