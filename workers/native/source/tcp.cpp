#include "source/tcp.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kernel/clock.hpp"
#include "kernel/error.hpp"

namespace uffd::tcp {

namespace {

[[noreturn]] void lost(const char* what, int error) { throw Lost(std::string(what) + ": " + std::strerror(error)); }

void set(int fd, int level, int option, int value) { ::setsockopt(fd, level, option, &value, sizeof value); }

}  // namespace

Address resolve(const std::string& host, std::uint16_t port, bool to_listen) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (to_listen ? AI_PASSIVE : 0);
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) throw ConfigError("source address " + host + ": " + ::gai_strerror(error));
  Address address;
  std::memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
  address.length = found->ai_addrlen;
  ::freeaddrinfo(found);
  return address;
}

Descriptor listen_at(const Address& address) {
  Descriptor fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) throw KernelError("socket of the source", errno);
  set(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0)
    throw KernelError("bind of the source's socket", errno);
  if (::listen(fd.get(), 128) != 0) throw KernelError("listen on the source's socket", errno);
  return fd;
}

std::uint16_t port_of(int fd) {
  Address bound;
  bound.length = sizeof bound.storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&bound.storage), &bound.length) != 0) throw KernelError("getsockname", errno);
  return ntohs(bound.storage.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(bound.storage).sin6_port
                                                   : reinterpret_cast<const sockaddr_in&>(bound.storage).sin_port);
}

void prepare(int fd) {
  set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

void limit_await(int fd, std::uint64_t timeout_ns) {
  const timeval limit{static_cast<time_t>(timeout_ns / kNanosecondsPerSecond),
                      static_cast<suseconds_t>(timeout_ns % kNanosecondsPerSecond / 1000)};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

void shut_down(int fd) noexcept { ::shutdown(fd, SHUT_RDWR); }

Descriptor connect_to(const Address& address, int stop_fd, std::uint64_t deadline_ns) {
  Descriptor fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) lost("socket", errno);
  prepare(fd.get());
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0 && errno != EINPROGRESS)
    lost("connect", errno);
  const std::uint64_t now = Clock::monotonic_ns();
  if (now >= deadline_ns || !wait(fd.get(), POLLOUT, stop_fd, deadline_ns - now)) lost("connect", ETIMEDOUT);
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) lost("connect", error);
  ::fcntl(fd.get(), F_SETFL, 0);  // only the connecting must not block
  return fd;
}

bool wait(int fd, short events, int stop_fd, std::uint64_t timeout_ns) {
  std::array<pollfd, 2> fds{pollfd{fd, events, 0}, pollfd{stop_fd, POLLIN, 0}};
  const timespec timeout{static_cast<time_t>(timeout_ns / kNanosecondsPerSecond),
                         static_cast<long>(timeout_ns % kNanosecondsPerSecond)};
  int ready = 0;
  do {
    ready = ::ppoll(fds.data(), fds.size(), &timeout, nullptr);
  } while (ready < 0 && errno == EINTR);  // a signal is no time-out; it comes too seldom for the clock to matter
  if (ready > 0 && fds[1].revents != 0) throw Stopped{};
  return ready > 0 && fds[0].revents != 0;
}

void send_all(int fd, std::span<iovec> parts, int stop_fd, std::uint64_t timeout_ns) {
  constexpr std::size_t kMostParts = 512;
  while (!parts.empty()) {
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = std::min(parts.size(), kMostParts);
    const ssize_t sent = ::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) lost("send", errno);
      if (!wait(fd, POLLOUT, stop_fd, timeout_ns)) lost("send", ETIMEDOUT);
      continue;
    }
    auto left = static_cast<std::size_t>(sent);
    while (!parts.empty() && left >= parts.front().iov_len) {
      left -= parts.front().iov_len;
      parts = parts.subspan(1);
    }
    if (left != 0) {
      parts.front().iov_base = static_cast<std::byte*>(parts.front().iov_base) + left;
      parts.front().iov_len -= left;
    }
  }
}

void Inbox::resize(std::size_t bytes) {
  const std::span<const std::byte> held = view();
  std::vector<std::byte> resized(std::max(bytes, held.size()));
  std::copy(held.begin(), held.end(), resized.begin());
  end_ = held.size();
  begin_ = 0;
  bytes_ = std::move(resized);
}

std::size_t Inbox::receive(int fd, int flags) {
  if (begin_ == end_) begin_ = end_ = 0;
  if (begin_ > bytes_.size() / 2 || end_ == bytes_.size()) {
    std::memmove(bytes_.data(), bytes_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const ssize_t got = ::recv(fd, bytes_.data() + end_, bytes_.size() - end_, flags);
  if (got == 0) throw Ended();
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return 0;
    lost("recv", errno);
  }
  end_ += static_cast<std::size_t>(got);
  return static_cast<std::size_t>(got);
}

}  // namespace uffd::tcp
