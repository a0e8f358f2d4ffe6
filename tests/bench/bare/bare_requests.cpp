// What a remote source is compared with: a client asks for pages of 4 KiB over one TCP connection on loopback, with DEPTH
// requests under way; a server answers from memory; the client writes each page where it belongs. The server has CPU 0 and the
// client CPU 1, as if they were two hosts. Usage: bare_requests DEPTH PAGES; each line on standard input is a pass, which prints
// its pages a second.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kPage = 4096;
struct Header {
  std::uint64_t page;
  std::uint64_t rest[3];
};

void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

void pin(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) fail("sched_setaffinity");
}

char* memory(std::size_t pages) {
  void* at = ::mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (at == MAP_FAILED) fail("mmap");
  return static_cast<char*>(at);
}

void send_all(int fd, std::vector<iovec>& parts) {
  for (std::size_t at = 0; at < parts.size();) {
    msghdr message{};
    message.msg_iov = parts.data() + at;
    message.msg_iovlen = std::min<std::size_t>(parts.size() - at, 1024);
    ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent < 0) fail("sendmsg");
    while (at < parts.size() && static_cast<std::size_t>(sent) >= parts[at].iov_len)
      sent -= static_cast<ssize_t>(parts[at++].iov_len);
    if (sent > 0) {
      parts[at].iov_base = static_cast<char*>(parts[at].iov_base) + sent;
      parts[at].iov_len -= static_cast<std::size_t>(sent);
    }
  }
}

void serve(int fd, const char* held) {
  std::vector<char> inbox(1 << 16);
  std::size_t have = 0;
  for (ssize_t got; (got = ::recv(fd, inbox.data() + have, inbox.size() - have, 0)) > 0;) {
    have += static_cast<std::size_t>(got);
    std::vector<iovec> parts;
    std::size_t at = 0;
    for (; have - at >= sizeof(Header); at += sizeof(Header)) {
      auto* header = reinterpret_cast<Header*>(inbox.data() + at);
      parts.push_back({header, sizeof *header});
      parts.push_back({const_cast<char*>(held) + header->page * kPage, kPage});
    }
    if (!parts.empty()) send_all(fd, parts);
    std::memmove(inbox.data(), inbox.data() + at, have - at);
    have -= at;
  }
}

double pass(int fd, std::uint64_t depth, std::uint64_t pages, char* placed) {
  std::vector<char> inbox(1 << 19);
  std::vector<Header> asking;
  std::size_t have = 0;
  std::uint64_t asked = 0, came = 0;
  const auto begin = std::chrono::steady_clock::now();
  while (came < pages) {
    asking.clear();
    for (; asked < pages && asked - came < depth; ++asked) asking.push_back({asked, {}});
    std::vector<iovec> parts{{asking.data(), asking.size() * sizeof(Header)}};
    if (!asking.empty()) send_all(fd, parts);
    const ssize_t got = ::recv(fd, inbox.data() + have, inbox.size() - have, 0);
    if (got <= 0) fail("recv");
    have += static_cast<std::size_t>(got);
    std::size_t at = 0;
    for (; have - at >= sizeof(Header) + kPage; at += sizeof(Header) + kPage, ++came) {
      const auto* header = reinterpret_cast<const Header*>(inbox.data() + at);
      std::memcpy(placed + header->page * kPage, inbox.data() + at + sizeof(Header), kPage);
    }
    std::memmove(inbox.data(), inbox.data() + at, have - at);
    have -= at;
  }
  return static_cast<double>(pages) / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::uint64_t depth = std::strtoull(argv[1], nullptr, 10), pages = std::strtoull(argv[2], nullptr, 10);
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(listener, 1) != 0) fail("listen");
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  const int client = ::socket(AF_INET, SOCK_STREAM, 0);
  if (::connect(client, reinterpret_cast<sockaddr*>(&address), length) != 0) fail("connect");
  const int server = ::accept(listener, nullptr, nullptr);
  const int yes = 1;
  for (const int fd : {client, server}) ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  const char* held = memory(pages);
  char* placed = memory(pages);
  std::thread serving([&] {
    pin(0);
    serve(server, held);
  });
  pin(1);
  for (int c; (c = std::getchar()) != EOF;)
    if (c == '\n') {
      std::printf("%.0f\n", pass(client, depth, pages, placed));
      std::fflush(stdout);
    }
  ::shutdown(client, SHUT_RDWR);
  serving.join();
}
