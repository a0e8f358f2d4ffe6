// What a thread that answers for pages has to do later: a fetch that is delayed, a page that another thread fetches or has
// claimed. It lies in a heap by due time, so one slow page holds up no other. Two kinds of request wait in it: a fault that
// sleeps in userfaultfd (fault_answers.hpp) and a vCPU that has exited and asks at a ring (ring_server.hpp).
#pragma once

#include <cstdint>
#include <queue>
#include <vector>

#include "server/state.hpp"

namespace uffd {

/// How soon a page is looked at again that another thread has claimed or fetches.
constexpr double kClaimedPollNs = 20'000;

struct Request {
  static constexpr std::uint32_t kNobody = ~0u;

  std::uint64_t page = 0;
  std::uint32_t vcpu = kNobody;   ///< kNobody when the thread is none of the guest's vCPUs
  Peer* peer = nullptr;           ///< whose userfaultfd it sleeps in; null: it asks at a ring
  FaultRecord* record = nullptr;  ///< of the fault it sleeps in; null when unknown
  Ticks seen = 0;                 ///< when it was read, or last looked at
  bool minor = false;             ///< the kernel found the page in the page cache
  bool removed = false;           ///< no fault: a remove event named the page while another thread had claimed it
};

class DueWork {
 public:
  DueWork(ServerState& server, ThreadInfo& thread, std::uint32_t number);
  virtual ~DueWork() = default;
  DueWork(const DueWork&) = delete;
  DueWork& operator=(const DueWork&) = delete;

  bool none() const noexcept { return jobs_.empty(); }
  /// When the next of it is due; only when there is some.
  Ticks due() const noexcept { return jobs_.top().due; }
  /// Does what is due now.
  void run_due();
  /// Does what there is, due or not.
  void run_all();
  /// Forgets all of it, but for the remove events that were put off; how many requests are left without an answer.
  std::uint64_t drop() noexcept;

 protected:
  /// Brings contents: `request.page`, and of `run` around it what can come with it; after the delay, if there is one.
  void fetch(const Request& request, const PageRun& run);
  void look_later(const Request& request, Ticks delay);
  Ticks look_again_after() const noexcept { return look_again_; }

  /// The request is only about `part` of `run` from now on.
  virtual void narrow(const Request& request, const PageRun& run, const PageRun& part) = 0;
  /// Looks at a request again.
  virtual void look(Request request) = 0;
  /// A remove event named the request's page: has the record say so. False: the page is in flight.
  virtual bool mark_removed(const Request& request) noexcept = 0;
  /// Where contents of anonymous memory that are made here go; used by the next present().
  virtual std::byte* buffer(const Request& request) = 0;
  /// The run's contents are complete, for anonymous memory `from` there.
  virtual void present(const Request& request, const PageRun& run, const std::byte* from) = 0;
  /// What to do when a remote source's pages have arrived, on the thread they arrive on; `to` becomes where they go.
  virtual RemoteSource::Done arrival(const Request& request, const PageRun& run, std::byte*& to) = 0;
  /// The source cannot give the page.
  virtual void poisoned(const Request& request) = 0;
  /// The contents could not be made, and the run is being stopped.
  virtual void failed(const Request& request) = 0;

  ServerState& server_;
  const Guest& guest_;
  ThreadInfo& thread_;
  Counters& counters_;

 private:
  enum class Step {
    look,     ///< the page was claimed by another thread: look again
    put,      ///< the delay is over: make the contents that are ours to make
    present,  ///< another thread makes the page's contents: done when they are complete
  };
  struct Job {
    Ticks due, began;
    Step step;
    Request request;
    PageRun run;
    std::vector<bool> mine;
    bool operator>(const Job& other) const noexcept { return due > other.due; }
  };

  void later(Job job, Ticks delay);
  void advance(Job job);
  void put(Job job);
  void finish(Job job);

  std::priority_queue<Job, std::vector<Job>, std::greater<>> jobs_;
  Delay delay_;
  Ticks look_again_;
};

}  // namespace uffd
