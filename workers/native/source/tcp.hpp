// Stream sockets that never block for good: a wait watches an eventfd or ends when the socket is shut down, and most of them
// watch the clock.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernel/descriptor.hpp"

namespace uffd::tcp {

/// A peer that is not there, or not any more: what happened, in words.
class Lost : public std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// It closed the connection: an end like any other when no frame is half received.
class Ended : public Lost {
 public:
  Ended() : Lost("it closed the connection") {}
};
/// The eventfd was written: the work is over.
struct Stopped {};

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

/// Resolves a name or number. Throws ConfigError.
Address resolve(const std::string& host, std::uint16_t port, bool to_listen);
/// Listens there; port 0 lets the kernel choose. Throws KernelError.
Descriptor listen_at(const Address& address);
std::uint16_t port_of(int fd);

/// Connects until `deadline_ns` (CLOCK_MONOTONIC). Throws Lost and Stopped.
Descriptor connect_to(const Address& address, int stop_fd, std::uint64_t deadline_ns);
/// No delay for small frames, keep-alive for peers that vanish.
void prepare(int fd);
/// Ends Inbox::await on this socket after `timeout_ns` without a byte.
void limit_await(int fd, std::uint64_t timeout_ns);
/// Ends every wait for this socket's bytes, in whatever thread it is.
void shut_down(int fd) noexcept;

/// Waits for `events` on `fd`; false when `timeout_ns` is out. Throws Stopped when `stop_fd` is readable.
bool wait(int fd, short events, int stop_fd, std::uint64_t timeout_ns);
inline iovec part(const void* data, std::size_t bytes) { return {const_cast<void*>(data), bytes}; }
/// Sends all of it; throws Lost when the peer is gone or takes nothing for `timeout_ns`.
void send_all(int fd, std::span<iovec> parts, int stop_fd, std::uint64_t timeout_ns);

/// Bytes received and not yet taken. Holds at least one whole frame of the size it was made for.
class Inbox {
 public:
  explicit Inbox(std::size_t largest) : bytes_(2 * largest) {}
  std::span<const std::byte> view() const noexcept { return {bytes_.data() + begin_, end_ - begin_}; }
  void take(std::size_t count) noexcept { begin_ += count; }
  void clear() noexcept { begin_ = end_ = 0; }
  std::size_t capacity() const noexcept { return bytes_.size(); }
  /// Makes room for `bytes`, or for what is in it where that is more.
  void resize(std::size_t bytes);
  /// What one recv gives: its bytes, 0 when there is nothing now. Throws Ended at the end of the stream, and Lost.
  std::size_t receive(int fd) { return receive(fd, MSG_DONTWAIT); }
  /// The same, waiting for it in the one system call: 0 when the socket's limit is out.
  std::size_t await(int fd) { return receive(fd, 0); }

 private:
  std::size_t receive(int fd, int flags);

  std::vector<std::byte> bytes_;
  std::size_t begin_ = 0, end_ = 0;
};

}  // namespace uffd::tcp
