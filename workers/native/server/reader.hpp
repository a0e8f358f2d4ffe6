// One reader thread: waits on its userfaultfds, reads events in batches, and sees every one of them answered: resolved and
// woken, woken because somebody else resolved it, or put off while the page is in somebody's hands. What waits for a time
// (a delay, another's fetch) lies in a heap by due time, so one slow page holds up no other.
#pragma once

#include <poll.h>

#include <cstdint>
#include <queue>
#include <vector>

#include "server/page_server.hpp"

namespace uffd {

class Reader {
 public:
  Reader(PageServer& server, std::uint32_t index, ReaderInfo& info);
  void serve();

 private:
  struct Event {
    Peer* peer;
    std::uint64_t page;
    std::uint32_t vcpu;   ///< kNobody when the thread is none of the guest's vCPUs
    FaultRecord* record;  ///< the record of the fault it sleeps in; null when unknown
    Ticks seen;           ///< when it was read, or last looked at
    bool minor = false;   ///< the kernel found the page in the page cache
  };
  enum class Step {
    look,     ///< the page was in somebody's hands: look again
    put,      ///< our fetch is due: fill what is ours, then install
    install,  ///< somebody else fetches the contents: install when they are complete
    discard,  ///< a remove event named the page while it was in somebody's hands
  };
  struct Job {
    Ticks due;
    Ticks began;
    Step step;
    Event event;
    PageRun run;
    std::vector<bool> mine;
    bool operator>(const Job& other) const noexcept { return due > other.due; }
  };
  static constexpr std::uint32_t kNobody = ~0u;

  void wait();
  bool read_on();  ///< without waiting; false: there was nothing, or it was not looked for
  void poll_once(const timespec* timeout);
  void epoll_once(const timespec* timeout);
  bool read_events(Peer& peer);  ///< false: there was none
  void handle(const Event& event);
  void advance(Job job);
  void fetch(const Job& job);
  void install_again(const Event& event);
  void refetch(const Event& event, const PageRun& run);  ///< its contents are gone
  void poison(const Event& event);                       ///< the page is claimed
  static void count_again(const Guest& guest, const Event& event, const Installed& installed, Counters& counters);
  void mark_removes(Peer& peer, std::size_t messages);
  void discard(const Event& event);
  void install(const Event& event, const PageRun& run, const std::byte* from);
  /// Installs and accounts for it. An end other than `changing` and `gone` is the event's answer.
  static Installed::End install(const Guest& guest, const Event& event, const PageRun& run, const std::byte* from,
                                Counters& counters, int tries);
  void run_due();
  std::uint32_t vcpu_of(std::uint32_t tid);
  FaultRecord* record_of(const Peer& peer, std::uint32_t vcpu, std::uint64_t page) const noexcept;
  void later(Job job, Ticks delay);
  void wake_all() noexcept;  ///< everybody who sleeps faults again, and so repeats an event that was forgotten
  void vanish();             ///< closes this reader's userfaultfds

  PageServer& server_;
  const Guest& guest_;
  Counters& counters_;
  CpusSeen& seen_;
  std::vector<Peer*> peers_;
  std::vector<pollfd> polled_;  ///< their userfaultfds
  bool alone_;                  ///< its one userfaultfd has no other reader
  std::vector<uffd_msg> messages_;
  std::priority_queue<Job, std::vector<Job>, std::greater<>> jobs_;
  std::vector<std::uint32_t> tids_;  ///< by vCPU
  std::vector<std::byte> staging_;   ///< contents of anonymous pages
  Delay delay_;
  Descriptor epoll_;
  std::atomic<std::uint32_t>& marking_;  ///< this reader's, in the shared header
  Ticks look_again_;
  Random dropping_;
  Ticks wake_interval_, wake_due_;  ///< 0: never
  std::uint64_t taken_ = 0;         ///< events
  std::uint32_t waits_first_ = 0;   ///< rounds to come in which nothing is read before a wait
  std::uint32_t pause_ = 0;         ///< how many they were the last time
};

}  // namespace uffd
