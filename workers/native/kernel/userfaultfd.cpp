#include "kernel/userfaultfd.hpp"

#include <sys/syscall.h>

#include "kernel/error.hpp"
#include "kernel/system_call.hpp"

namespace uffd {

namespace {

int open_way(Way way) {
  constexpr int flags = O_CLOEXEC | O_NONBLOCK;
  switch (way) {
    case Way::device: {
      const Descriptor device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
      return device.valid() ? ::ioctl(device.get(), USERFAULTFD_IOC_NEW, flags) : -1;
    }
    case Way::syscall: return static_cast<int>(::syscall(SYS_userfaultfd, flags));
    case Way::user_mode_only: return static_cast<int>(::syscall(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY));
  }
  return -1;
}

Descriptor open_best(Way& way, std::vector<Refusal>& refusals) {
  for (const Way candidate : {Way::device, Way::syscall, Way::user_mode_only}) {
    Descriptor fd(open_way(candidate));
    if (fd.valid()) {
      way = candidate;
      return fd;
    }
    refusals.push_back({candidate, errno});
  }
  return {};
}

std::string join(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

// The resolving ioctls report bytes done, or a negative errno, in one field, and set errno beside it. A partial result
// comes as EAGAIN with a positive count; nothing done at all as the negative errno in the field.
template <typename Request>
Outcome resolve(int fd, unsigned long call, Request& request, const __s64& field, std::uint64_t length) {
  const long error = system_call(SYS_ioctl, fd, static_cast<long>(call), reinterpret_cast<long>(&request));
  if (error == 0) return {static_cast<std::int64_t>(length), 0};
  return {field > 0 ? field : 0, static_cast<int>(-error)};
}

}  // namespace

const char* way_name(Way way) {
  switch (way) {
    case Way::device: return "device";
    case Way::syscall: return "syscall";
    case Way::user_mode_only: return "user_mode_only";
  }
  return "";
}

std::vector<std::string> feature_names(std::uint64_t features) {
  std::vector<std::string> names;
  for (const FeatureName& feature : kFeatureNames)
    if (features & feature.bit) names.emplace_back(feature.name);
  return names;
}

Userfaultfd::Userfaultfd(std::uint64_t features) {
  std::vector<Refusal> refusals;
  fd_ = open_best(way_, refusals);
  if (!fd_.valid())
    throw KernelError(
        "no userfaultfd for this process: run as root, or give it access to /dev/userfaultfd, or set "
        "vm.unprivileged_userfaultfd=1",
        refusals.back().error);
  uffdio_api api{.api = UFFD_API, .features = features, .ioctls = 0};
  if (::ioctl(fd_.get(), UFFDIO_API, &api) == 0) return;
  const int error = errno;
  const std::uint64_t missing = features & ~probe_userfaultfd().features;
  throw KernelError(missing ? "this kernel's userfaultfd lacks " + join(feature_names(missing)) : "UFFDIO_API", error);
}

std::uint64_t Userfaultfd::register_range(std::uint64_t start, std::uint64_t length, std::uint64_t mode) const {
  uffdio_register request{.range = {.start = start, .len = length}, .mode = mode, .ioctls = 0};
  if (::ioctl(fd(), UFFDIO_REGISTER, &request) != 0) throw KernelError("UFFDIO_REGISTER", errno, start, length);
  return request.ioctls;
}

Outcome Userfaultfd::unregister_range(std::uint64_t start, std::uint64_t length) const noexcept {
  uffdio_range range{.start = start, .len = length};
  return ::ioctl(fd(), UFFDIO_UNREGISTER, &range) == 0 ? Outcome{static_cast<std::int64_t>(length), 0} : Outcome{0, errno};
}

[[gnu::hot]] Outcome Userfaultfd::copy(std::uint64_t to, std::uint64_t from, std::uint64_t length, bool wake) const noexcept {
  uffdio_copy request{.dst = to, .src = from, .len = length, .mode = wake ? 0ull : UFFDIO_COPY_MODE_DONTWAKE, .copy = 0};
  return resolve(fd(), UFFDIO_COPY, request, request.copy, length);
}

[[gnu::hot]] Outcome Userfaultfd::resume(std::uint64_t start, std::uint64_t length, bool wake) const noexcept {
  uffdio_continue request{
      .range = {.start = start, .len = length}, .mode = wake ? 0ull : UFFDIO_CONTINUE_MODE_DONTWAKE, .mapped = 0};
  return resolve(fd(), UFFDIO_CONTINUE, request, request.mapped, length);
}

Outcome Userfaultfd::zeropage(std::uint64_t start, std::uint64_t length, bool wake) const noexcept {
  uffdio_zeropage request{
      .range = {.start = start, .len = length}, .mode = wake ? 0ull : UFFDIO_ZEROPAGE_MODE_DONTWAKE, .zeropage = 0};
  return resolve(fd(), UFFDIO_ZEROPAGE, request, request.zeropage, length);
}

Outcome Userfaultfd::poison(std::uint64_t start, std::uint64_t length, bool wake) const noexcept {
  uffdio_poison request{.range = {.start = start, .len = length}, .mode = wake ? 0ull : 1ull, .updated = 0};
  return resolve(fd(), UFFDIO_POISON, request, request.updated, length);
}

Outcome Userfaultfd::wake(std::uint64_t start, std::uint64_t length) const noexcept {
  uffdio_range range{.start = start, .len = length};
  return ::ioctl(fd(), UFFDIO_WAKE, &range) == 0 ? Outcome{static_cast<std::int64_t>(length), 0} : Outcome{0, errno};
}

Capability probe_userfaultfd() {
  Capability capability;
  const Descriptor fd = open_best(capability.way, capability.refusals);
  if (!fd.valid()) return capability;
  uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
  if (::ioctl(fd.get(), UFFDIO_API, &api) != 0) {
    capability.refusals.push_back({capability.way, errno});
    return capability;
  }
  capability.available = true;
  capability.features = api.features;
  return capability;
}

}  // namespace uffd
