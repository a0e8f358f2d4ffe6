// The page server's side of a remote source: pages are asked for over several connections, each with a thread that receives,
// writes the contents where they belong, and then finishes what waited for them. A thread that asks never waits: a fault is
// finished on the thread its last page arrived on. One more connection takes what the source pushes.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "guest/counters.hpp"
#include "guest/guest.hpp"
#include "guest/page_run.hpp"
#include "kernel/duration_histogram.hpp"
#include "source/source_protocol.hpp"
#include "source/tcp.hpp"

namespace uffd {

struct RemoteSourceConfig {
  std::string host;
  std::uint16_t port = 0;
  std::uint32_t connections = 1;  ///< beside the one of the push
  bool push = false;
  std::uint32_t batch_pages = 16;    ///< of a pushed frame
  double push_mib_per_s = 0.0;       ///< 0: as fast as it goes
  double timeout_s = 2.0;            ///< how long an answer may take before it is asked for again, on a new connection
  std::uint32_t retries = 3;         ///< how often, before the run fails
  std::uint32_t first_counters = 0;  ///< whose place in the guest's shared memory the first connection's counters have
};

struct SourceCounts {
  std::uint64_t on_demand = 0;  ///< pages whose contents came because they were asked for
  std::uint64_t pushed = 0;     ///< pages whose contents came by themselves
  std::uint64_t twice = 0;      ///< pages that came, and were here or asked for already: dropped
  std::uint64_t requests = 0;   ///< request frames, those asked again among them
  std::uint64_t retries = 0;    ///< requests asked again
  std::uint64_t bytes = 0;      ///< received
  double rtt_p50_us = 0.0;      ///< from a request to the last page of its answer, median
};

class RemoteSource {
 public:
  /// Finishes what waited for pages, on the thread they arrived on, with that thread's counters.
  using Done = std::function<void(Counters&)>;

  /// Connects. `alias` is null for anonymous memory. Throws ConfigError, and KernelError naming the source.
  RemoteSource(const Guest& guest, std::byte* alias, const RemoteSourceConfig& config);
  ~RemoteSource();
  RemoteSource(const RemoteSource&) = delete;
  RemoteSource& operator=(const RemoteSource&) = delete;

  /// Starts the threads; the push begins when the guest's vCPUs leave the barrier. Throws KernelError.
  void start();
  /// Asks for the pages of the run that are `mine` (shared memory), or for all of them, into `to` (anonymous memory). True:
  /// `done` will be called once, when every page of the run is complete, unless the run ends before. False: all are complete.
  /// Requests leave with the next flush().
  bool fetch(const PageRun& run, const std::vector<bool>& mine, std::byte* to, Done done);
  void flush() noexcept;
  /// Ends the threads; nothing is called any more afterwards. Idempotent.
  void stop() noexcept;

  const std::string& name() const noexcept { return name_; }
  SourceCounts counts() const;  ///< after stop()
  Counters counters() const;    ///< after stop(): of the faults that were finished

 private:
  struct Job {
    PageRun run;
    std::byte* to;
    std::uint32_t left;
    Done done;
  };
  struct Awaited {
    std::uint64_t request = 0;   ///< 0: another thread brings it
    bool placing = false;        ///< its contents are being written
    std::shared_ptr<Job> first;  ///< most often the only one
    std::vector<std::shared_ptr<Job>> others;
  };
  struct Request {
    std::uint32_t link;
    std::uint32_t count, left;
    std::uint64_t first;
    std::uint64_t asked_ns, sent_ns;
  };
  struct Link {
    std::uint32_t index = 0;
    std::thread thread;
    Counters own_counters;  // where the guest has no room for them
    Counters* counters = &own_counters;
    SourceCounts counts;  // its thread's own; `requests` are counted by those who ask
    std::mutex mutex;     // socket and outbox: several threads send
    Descriptor socket;
    std::vector<std::byte> outbox;
    std::atomic<bool> waiting{false};  ///< the outbox holds something
    std::uint64_t heard_ns = 0, lost_ns = 0;
    std::string why;
    std::vector<bool> ours;  // what place() works with, kept for the next frame
    std::vector<std::shared_ptr<Job>> finished;
  };

  wire::Shape shape() const noexcept { return {guest_.pages(), guest_.config().page_bytes}; }
  std::uint64_t budget_ns() const noexcept { return (config_.retries + 1) * timeout_ns_; }
  Descriptor connect(std::uint64_t deadline_ns);
  std::size_t more_answers(Link& link, tcp::Inbox& inbox);
  void receive_answers(Link& link);
  void receive_push(Link& link);
  void receive(Link& link);
  void ask_again(Link& link, Descriptor socket);
  void lose(Link& link, const std::string& why);
  bool overdue(Link& link);
  bool reconnect(Link& link);
  void send_outbox(Link& link) noexcept;
  bool is_push(const Link& link) const noexcept { return link.index >= config_.connections; }
  bool take_frames(Link& link, tcp::Inbox& inbox);
  void place(Link& link, std::span<const wire::Parsed> frames);
  template <typename Visit>
  void each_page(std::span<const wire::Parsed> frames, const Visit& visit) const;
  void claim_arrived(Link& link, std::span<const wire::Parsed> frames);
  void write_arrived(const Link& link, std::span<const wire::Parsed> frames);
  std::size_t settle_arrived(Link& link, std::span<const wire::Parsed> frames);
  void answered(const Link& link, std::uint64_t id);
  void send_bitmap(int fd);
  void fail(const Link& link, std::uint64_t since_ns);

  const Guest& guest_;
  std::byte* alias_;
  RemoteSourceConfig config_;
  std::string name_;
  tcp::Address address_;
  std::uint64_t session_ = 0;
  std::uint64_t timeout_ns_ = 0;
  Descriptor stop_event_;
  std::atomic<bool> stopping_{false};
  std::vector<std::unique_ptr<Link>> links_;  ///< those that ask, then the push's
  std::atomic<std::uint32_t> turn_{0};

  mutable std::mutex mutex_;                             // what is asked for and awaited
  std::unordered_map<std::uint64_t, Awaited> awaited_;   // by page
  std::unordered_map<std::uint64_t, Request> requests_;  // by id
  std::uint64_t next_id_ = 1;
  std::uint64_t sent_requests_ = 0;
  DurationHistogram rtt_ns_;
};

}  // namespace uffd
