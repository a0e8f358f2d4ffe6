// A real failure of the kernel, with what a reader needs to act: the call, the errno, the address and the length.
#pragma once

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace uffd {

class KernelError : public std::runtime_error {
 public:
  KernelError(const std::string& call, int error, std::uint64_t address = 0, std::uint64_t length = 0)
      : std::runtime_error(text(call, error, address, length)), error_(error) {}
  int error() const noexcept { return error_; }

 private:
  static std::string text(const std::string& call, int error, std::uint64_t address, std::uint64_t length) {
    std::string out = call + ": " + std::strerror(error) + " (errno " + std::to_string(error) + ")";
    if (length != 0) {
      char place[64];
      std::snprintf(place, sizeof place, " at 0x%llx, %llu bytes", static_cast<unsigned long long>(address),
                    static_cast<unsigned long long>(length));
      out += place;
    }
    return out;
  }
  int error_;
};

/// A caller's mistake: a configuration the core cannot carry out. Becomes ValueError in Python.
class ConfigError : public std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

}  // namespace uffd
