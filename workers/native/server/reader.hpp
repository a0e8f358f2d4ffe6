// One reader thread: waits on its userfaultfds, reads events in batches, and has every one of them answered.
#pragma once

#include <poll.h>

#include <cstdint>
#include <vector>

#include "server/fault_answers.hpp"
#include "server/vcpu_threads.hpp"

namespace uffd {

class Reader {
 public:
  /// Throws KernelError.
  Reader(ServerState& server, ThreadInfo& thread, std::uint32_t index);
  /// Until the page server stops. Throws KernelError.
  void serve();

 private:
  void wait();
  const timespec* until_due(timespec& left) const noexcept;
  bool read_on();  ///< without waiting; false: there was nothing, or it was not looked for
  void poll_once(const timespec* timeout);
  void epoll_once(const timespec* timeout);
  bool read_events(Peer& peer);  ///< false: there was none
  bool read_and_answer(Peer& peer);
  std::size_t read_messages(const Peer& peer) noexcept;  ///< how many
  std::size_t read_and_mark(Peer& peer);                 ///< the same, with the pages of their remove events marked
  void answer_the_last();
  void begin_answering() noexcept;
  void end_answering() noexcept;
  void take_fault(Peer& peer, const uffd_msg& message, Ticks delivered);
  void take_foreign_fault(Peer& peer, const uffd_msg& message, std::uint64_t page, Ticks delivered);
  void count_waiter(std::uint32_t vcpu) noexcept;
  void note_sleeper(std::uint32_t vcpu, std::uint64_t page, Ticks delivered) const noexcept;
  void mark_removes(Peer& peer, std::size_t messages);
  void wake_all() noexcept;
  void vanish();

  ServerState& server_;
  const Guest& guest_;
  Counters& counters_;
  CpusSeen& seen_;
  std::vector<Peer*> peers_;
  std::vector<pollfd> polled_;  ///< their userfaultfds
  bool alone_;                  ///< its one userfaultfd has no other reader
  std::vector<uffd_msg> messages_;
  FaultAnswers answers_;
  VcpuThreads vcpus_;
  Descriptor epoll_;
  SharedHeader::Answering& answering_;   ///< this reader's slot
  bool counted_ = false;                 ///< in it, as one that has events
  std::atomic<std::uint32_t>& marking_;  ///< this reader's, in the guest's shared memory
  Random dropping_;
  Ticks wake_interval_, wake_due_;  ///< 0: never
  std::uint64_t taken_ = 0;         ///< events
  bool vanished_ = false;
  std::uint32_t waits_first_ = 0;  ///< rounds to come in which nothing is read before a wait
  std::uint32_t pause_ = 0;        ///< how many they were the last time
};

}  // namespace uffd
