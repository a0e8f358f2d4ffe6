// What a shell does for a thread that must not be held up, or leave anything half done, whatever the kernel makes of it.
#pragma once

#include <string>
#include <vector>

namespace uffd {

/// Runs a script in a process of its own, without a copy of this one's memory; `arguments` are its $1 and so on. True when it
/// ends with 0. Throws KernelError when it cannot be started.
bool run_script(const std::string& script, const std::vector<std::string>& arguments);

}  // namespace uffd
