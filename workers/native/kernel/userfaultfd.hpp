// One userfaultfd: opened the best way this process may, its features negotiated, its ioctls with signed results.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/descriptor.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

/// How the descriptor was got. `user_mode_only` descriptors do not handle faults taken inside the kernel.
enum class Way { device, syscall, user_mode_only };
const char* way_name(Way way);

/// What an ioctl did: bytes done (may be partial, with an error) and the errno (0: all of it).
struct Outcome {
  std::int64_t done = 0;
  int error = 0;
};

struct Refusal {
  Way way;
  int error;
};

class Userfaultfd {
 public:
  /// Opens `/dev/userfaultfd`, then the system call, then user-mode-only; O_NONBLOCK always (poll on a blocking one is POLLERR).
  /// Throws KernelError naming the three ways out when none is open, or the missing features by name.
  explicit Userfaultfd(std::uint64_t features);
  /// Takes over a descriptor received from another process, already negotiated.
  explicit Userfaultfd(Descriptor fd) : fd_(std::move(fd)) {}

  int fd() const noexcept { return fd_.get(); }
  Way way() const noexcept { return way_; }
  void close() noexcept { fd_.reset(); }

  /// Registers a range; returns the ioctls the kernel offers on it. Throws KernelError.
  std::uint64_t register_range(std::uint64_t start, std::uint64_t length, std::uint64_t mode) const;
  /// Unregisters and so wakes every sleeper of the range.
  Outcome unregister_range(std::uint64_t start, std::uint64_t length) const noexcept;

  Outcome copy(std::uint64_t to, std::uint64_t from, std::uint64_t length, bool wake) const noexcept;
  Outcome resume(std::uint64_t start, std::uint64_t length, bool wake) const noexcept;  ///< UFFDIO_CONTINUE
  Outcome zeropage(std::uint64_t start, std::uint64_t length, bool wake) const noexcept;
  Outcome poison(std::uint64_t start, std::uint64_t length, bool wake) const noexcept;
  Outcome wake(std::uint64_t start, std::uint64_t length) const noexcept;

 private:
  Descriptor fd_;
  Way way_ = Way::device;
};

/// What this process may do, without keeping anything open.
struct Capability {
  bool available = false;
  Way way = Way::device;
  std::uint64_t features = 0;
  std::vector<Refusal> refusals;
};
Capability probe_userfaultfd();

std::vector<std::string> feature_names(std::uint64_t features);

}  // namespace uffd
