// One owned mapping of memory: a memfd's, or private anonymous.
#pragma once

#include <cstdint>
#include <string>

#include "kernel/descriptor.hpp"

namespace uffd {

/// `file`: a private mapping of a snapshot file, which its strategy makes itself.
enum class MemoryType : std::uint32_t { shmem, hugetlb, anon, file };
MemoryType memory_type(const std::string& name);  ///< throws ConfigError with the list
const char* memory_type_name(MemoryType type);

class Mapping {
 public:
  Mapping() = default;
  /// Maps all of `fd` shared. Throws KernelError.
  static Mapping shared(int fd, std::uint64_t bytes);
  /// The same with every page of it in the page tables: what the measured path writes must not fault there itself.
  static Mapping populated(int fd, std::uint64_t bytes);
  /// Maps all of `fd` privately: written pages are copies of its own. Throws KernelError.
  static Mapping private_of(int fd, std::uint64_t bytes);
  /// Maps private anonymous memory, aligned to `alignment`, without reserving swap. Throws KernelError.
  static Mapping anonymous(std::uint64_t bytes, std::uint64_t alignment);
  /// Maps private anonymous memory of 2-MiB pages, reserved from the kernel's pool. Throws KernelError.
  static Mapping anonymous_huge(std::uint64_t bytes);
  /// Address space with nothing in it, aligned to `alignment`; `put` fills parts of it. Throws KernelError.
  static Mapping reserved(std::uint64_t bytes, std::uint64_t alignment);
  /// Maps `bytes` of `fd` from `from` on shared, or private anonymous memory where `fd` is -1 (`huge`: of 2-MiB pages), at `at`
  /// of a reserved mapping. Throws KernelError.
  void put(std::uint64_t at, std::uint64_t bytes, int fd, std::uint64_t from, bool huge) const;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  std::byte* data() const noexcept { return data_; }
  std::uint64_t address() const noexcept { return reinterpret_cast<std::uint64_t>(data_); }
  std::uint64_t bytes() const noexcept { return bytes_; }
  void advise(int advice, const char* name) const;  ///< madvise over all of it; throws KernelError

 private:
  static Mapping aligned(std::uint64_t bytes, std::uint64_t alignment, int protection);
  Mapping(void* data, std::uint64_t bytes) : data_(static_cast<std::byte*>(data)), bytes_(bytes) {}
  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};

/// A memfd of `bytes`. Huge pages come from the kernel's reserved pool. Throws KernelError.
Descriptor make_memfd(const char* name, std::uint64_t bytes, bool huge);

}  // namespace uffd
