// A ring's thread: vCPUs that have exited ask it for contents, and install them themselves. It reads requests where a reader
// reads events; what it does with them is the same work.
#pragma once

#include <cstdint>

#include "server/due_work.hpp"

namespace uffd {

class RingServer final : public DueWork {
 public:
  RingServer(ServerState& server, ThreadInfo& thread, std::uint32_t ring, std::uint32_t number);
  /// Until the page server stops.
  void serve();

 private:
  bool take_requests();  ///< false: there was none
  void take(std::uint32_t vcpu);
  void sleep(std::uint32_t rung);

  void narrow(const Request& request, const PageRun& run, const PageRun& part) override;
  void look(Request) override {}
  bool mark_removed(const Request&) noexcept override { return true; }  // no event comes by a ring
  std::byte* buffer(const Request& request) override { return guest_.payload(request.vcpu); }
  void present(const Request& request, const PageRun& run, const std::byte* from) override;
  RemoteSource::Done arrival(const Request& request, const PageRun& run, std::byte*& to) override;
  void poisoned(const Request& request) override;
  void failed(const Request& request) override;

  const std::uint32_t index_;
  RequestRing& ring_;
  std::uint32_t last_;  ///< the vCPU whose request was taken last
};

}  // namespace uffd
