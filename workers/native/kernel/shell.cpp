#include "kernel/shell.hpp"

#include <spawn.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>

#include "kernel/error.hpp"

namespace uffd {

bool run_script(const std::string& script, const std::vector<std::string>& arguments) {
  // Nothing of the environment: the processes of a session are found by their temporary folder, and ended with it.
  const std::array<const char*, 2> environment{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", nullptr};
  std::vector<const char*> words{"sh", "-c", script.c_str(), "sh"};
  for (const std::string& argument : arguments) words.push_back(argument.c_str());
  words.push_back(nullptr);
  // It shares the memory until it has become the shell: nothing of the guest is copied, or marked to be.
  pid_t child = 0;
  const int error = ::posix_spawn(&child, "/bin/sh", nullptr, nullptr, const_cast<char**>(words.data()),
                                  const_cast<char**>(environment.data()));
  if (error != 0) throw KernelError("posix_spawn of /bin/sh", error);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) throw KernelError("waitpid", errno);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace uffd
