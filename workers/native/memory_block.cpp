#include "memory_block.hpp"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <string>

#include "error.hpp"
#include "kernel.hpp"

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
  // Nothing of the environment: the processes of a session are told by their temporary folder, and ended with it.
  const std::array<const char*, 2> environment{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", nullptr};
  const std::array<const char*, 7> arguments{"sh", "-c", kScript, "sh", state.c_str(), back, nullptr};
  // It shares the memory until it has become the shell: nothing of the guest is copied, or marked to be.
  pid_t child = 0;
  const int error = ::posix_spawn(&child, "/bin/sh", nullptr, nullptr, const_cast<char**>(arguments.data()),
                                  const_cast<char**>(environment.data()));
  if (error != 0) throw KernelError("posix_spawn of /bin/sh", error);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) throw KernelError("waitpid", errno);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace uffd
