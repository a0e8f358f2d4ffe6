#include "kernel/mapping.hpp"

#include <linux/memfd.h>
#include <linux/mman.h>
#include <sys/syscall.h>

#include <utility>

#include "kernel/error.hpp"
#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

constexpr int kAnonymousHuge = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB;

}  // namespace

MemoryType memory_type(const std::string& name) {
  if (name == "shmem") return MemoryType::shmem;
  if (name == "hugetlb") return MemoryType::hugetlb;
  if (name == "anon") return MemoryType::anon;
  if (name == "file") return MemoryType::file;
  throw ConfigError("memory type '" + name + "' is unknown; it is one of shmem, hugetlb, anon, file");
}

const char* memory_type_name(MemoryType type) {
  switch (type) {
    case MemoryType::shmem: return "shmem";
    case MemoryType::hugetlb: return "hugetlb";
    case MemoryType::anon: return "anon";
    case MemoryType::file: return "file";
  }
  return "";
}

Mapping Mapping::shared(int fd, std::uint64_t bytes) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) throw KernelError("mmap of a memfd", errno, 0, bytes);
  return {data, bytes};
}

Mapping Mapping::private_of(int fd, std::uint64_t bytes) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
  if (data == MAP_FAILED) throw KernelError("private mmap of a file", errno, 0, bytes);
  return {data, bytes};
}

Mapping Mapping::populated(int fd, std::uint64_t bytes) {
  Mapping mapping = shared(fd, bytes);
  mapping.advise(MADV_POPULATE_WRITE, "madvise MADV_POPULATE_WRITE");
  return mapping;
}

Mapping Mapping::anonymous(std::uint64_t bytes, std::uint64_t alignment) {
  return aligned(bytes, alignment, PROT_READ | PROT_WRITE);
}

Mapping Mapping::anonymous_huge(std::uint64_t bytes) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kAnonymousHuge, -1, 0);
  if (data == MAP_FAILED) throw KernelError("mmap of anonymous 2-MiB pages (vm.nr_hugepages)", errno, 0, bytes);
  return {data, bytes};
}

Mapping Mapping::reserved(std::uint64_t bytes, std::uint64_t alignment) { return aligned(bytes, alignment, PROT_NONE); }

void Mapping::put(std::uint64_t at, std::uint64_t bytes, int fd, std::uint64_t from, bool huge) const {
  const int flags = MAP_FIXED | (fd >= 0 ? MAP_SHARED : huge ? kAnonymousHuge : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  void* const where = data_ + at;
  if (::mmap(where, bytes, PROT_READ | PROT_WRITE, flags, fd, static_cast<off_t>(fd < 0 ? 0 : from)) == MAP_FAILED)
    throw KernelError("mmap of a region of the guest", errno, address() + at, bytes);
}

Mapping Mapping::aligned(std::uint64_t bytes, std::uint64_t alignment, int protection) {
  const std::uint64_t span = bytes + alignment;
  void* data = ::mmap(nullptr, span, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) throw KernelError("mmap of anonymous memory", errno, 0, span);
  const auto start = reinterpret_cast<std::uint64_t>(data);
  const std::uint64_t begin = (start + alignment - 1) / alignment * alignment;
  if (begin > start) ::munmap(data, begin - start);
  if (begin + bytes < start + span) ::munmap(reinterpret_cast<void*>(begin + bytes), start + span - begin - bytes);
  return {reinterpret_cast<void*>(begin), bytes};
}

Mapping::Mapping(Mapping&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

void Mapping::advise(int advice, const char* name) const {
  if (::madvise(data_, bytes_, advice) != 0) throw KernelError(name, errno, address(), bytes_);
}

Descriptor make_memfd(const char* name, std::uint64_t bytes, bool huge) {
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0u);
  Descriptor fd(static_cast<int>(::syscall(SYS_memfd_create, name, flags)));
  if (!fd.valid()) throw KernelError("memfd_create", errno);
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) throw KernelError("ftruncate of a memfd", errno, 0, bytes);
  // A process that maps it relies on its size: a page past the end of a memfd is a SIGBUS in the process that touches it.
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0) throw KernelError("F_ADD_SEALS of a memfd", errno);
  return fd;
}

}  // namespace uffd
