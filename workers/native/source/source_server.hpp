// The remote source: holds a guest's memory and serves its pages over TCP. A thread a connection; a connection answers
// requests as they come, or pushes what was not asked for yet, in order, giving way to requests.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "guest/contents.hpp"
#include "guest/page_run.hpp"
#include "kernel/mapping.hpp"
#include "source/buffer_room.hpp"
#include "source/source_protocol.hpp"
#include "source/tcp.hpp"

namespace uffd {

struct SourceServerConfig {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;  ///< 0: the kernel chooses
  std::uint64_t region_bytes = 0;
  std::uint64_t page_bytes = 4096;
  std::uint64_t seed = 0;
  double rtt_us = 0.0;            ///< an emulated round-trip time: no answer leaves earlier than this after its request came
  std::size_t connections = 256;  ///< at most, at once
  double idle_s = 10.0;           ///< a connection silent for this long makes room for another when there is none left
  std::uint64_t buffer_bytes = 64 << 20;  ///< buffers of all connections together, beside a few bitmaps of the region
};

/// What was served, and to whom it was refused.
struct Served {
  std::uint64_t connections = 0, requests = 0, pages = 0, pages_pushed = 0, refused = 0;
  std::string last_refusal;
};

class SourceServer {
 public:
  /// Fills the memory and listens. Throws ConfigError and KernelError.
  explicit SourceServer(const SourceServerConfig& config);
  ~SourceServer();
  SourceServer(const SourceServer&) = delete;
  SourceServer& operator=(const SourceServer&) = delete;

  std::uint16_t port() const noexcept { return port_; }
  Served served() const;
  /// Ends every connection and thread; idempotent.
  void stop() noexcept;
  /// The guest's memory, for tests that make it wrong.
  std::byte* memory() const noexcept { return memory_.data(); }

 private:
  /// What the connections of one guest share: the pages that were sent, and how many requests are being answered now.
  struct Session {
    Session(std::uint64_t pages, BufferRoom::Lease own) : lease(std::move(own)), sent((pages + 63) / 64) {}
    BufferRoom::Lease lease;
    std::vector<std::atomic<std::uint64_t>> sent;
    std::atomic<std::uint32_t> answering{0};
    void forget(std::span<const std::byte> wanted) noexcept;
    bool mark(std::uint64_t page) noexcept {  ///< true when it had not been sent before
      // relaxed: no contents hang on the bit; the source has them all
      return (sent[page / 64].fetch_or(1ull << (page % 64), std::memory_order_relaxed) >> (page % 64) & 1) == 0;
    }
  };
  struct Connection {
    Descriptor socket;
    std::thread thread;
    BufferRoom::Lease lease;                  ///< of a push's bitmap
    std::atomic<std::uint64_t> active_ns{0};  ///< when it last sent a frame, or took part of an answer
    std::atomic<bool> ended{false};
  };
  struct Due {
    std::uint64_t came_ns;
    wire::Header request;
  };

  void accept_all();
  void add(Descriptor socket);
  bool make_room();
  void serve(Connection& connection);
  void serve_frames(Connection& connection, tcp::Inbox& inbox, Session& session);
  bool take_frame(Connection& connection, tcp::Inbox& inbox, Session& session, std::deque<Due>& queue);
  wire::Hello greet(int fd, tcp::Inbox& inbox);
  std::shared_ptr<Session> session_of(const wire::Hello& hello);
  std::shared_ptr<Session> session_or_refusal(int fd, const wire::Hello& hello);
  void answer(int fd, std::span<const Due> due, Session& session);
  void push(Connection& connection, const wire::Parsed& asked, Session& session);
  void send_pushed(Connection& connection, PageRun run);
  void send_all(int fd, std::span<iovec> parts) const;
  [[noreturn]] void turn_away(int fd, const std::string& why) const;
  void refuse(const std::string& why);
  std::byte* page(std::uint64_t index) const noexcept { return memory_.data() + index * shape_.page_bytes; }

  SourceServerConfig config_;
  wire::Shape shape_;
  Mapping memory_;
  Descriptor listener_, stop_event_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Connection>> connections_;
  BufferRoom room_;
  std::map<std::uint64_t, std::weak_ptr<Session>> sessions_;
  Served served_;
  std::atomic<std::uint64_t> requests_{0}, pages_{0}, pages_pushed_{0};
  std::thread accepting_;
};

}  // namespace uffd
