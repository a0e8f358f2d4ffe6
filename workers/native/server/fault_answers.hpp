// How a reader answers the faults it has read: each event ends resolved and woken, woken because another thread resolved the
// page, poisoned, or dropped because the run is over.
#pragma once

#include <cstdint>
#include <vector>

#include "server/due_work.hpp"
#include "server/parts.hpp"

namespace uffd {

class FaultAnswers final : public DueWork {
 public:
  FaultAnswers(ServerState& server, ThreadInfo& thread, std::uint32_t number);

  void answer(const Request& fault);
  /// A remove event names the page.
  void discard(Peer& peer, std::uint64_t page);

 private:
  void narrow(const Request& fault, const PageRun& run, const PageRun& part) override;
  void look(Request fault) override;
  bool mark_removed(const Request& removed) noexcept override;
  std::byte* buffer(const Request&) override { return staging_.data(); }
  void present(const Request& fault, const PageRun& run, const std::byte* from) override;
  RemoteSource::Done arrival(const Request& fault, const PageRun& run, std::byte*& to) override;
  void poisoned(const Request& fault) override;
  void failed(const Request&) override { ++counters_[Counter::events_dropped]; }

  void not_free(const Request& fault);
  void install_again(const Request& fault);
  void refetch(const Request& fault, const PageRun& run);  ///< its contents are gone

  std::vector<Part> parts_;         ///< of the run that is being installed
  std::vector<std::byte> staging_;  ///< contents of anonymous pages
};

}  // namespace uffd
