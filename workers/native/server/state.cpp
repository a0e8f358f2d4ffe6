#include "server/state.hpp"

#include "kernel/vocabulary.hpp"

namespace uffd {

namespace {

Mapping alias_of(const Guest& guest) {
  if (guest.region_fd() < 0) return {};
  Mapping alias = Mapping::shared(guest.region_fd(), guest.config().region_bytes);
  if (guest.config().memory == MemoryType::shmem && !guest.config().transparent_huge_pages)
    alias.advise(MADV_NOHUGEPAGE, "madvise MADV_NOHUGEPAGE");
  return alias;
}

PageServerConfig checked(PageServerConfig config, const Guest& guest, std::uint32_t threads) {
  check(config, guest);
  config.source.remote.first_counters = threads;
  return config;
}

}  // namespace

ServerState::ServerState(const Guest& guest, PageServerConfig asked, std::uint32_t threads)
    : guest(guest),
      config(checked(std::move(asked), guest, threads)),
      wait(wait_of(config.wait)),
      alias(alias_of(guest)),
      source(std::make_unique<Source>(guest, alias.data(), config.source, config.inject.fill_pause_us)),
      claim(0) {
  if (config.successor) guest.succeed_server();
  if (config.log_faults != 0) log = std::make_unique<FaultLog>(config.log_faults);
  if (config.prefetch.name != "none") brought.resize(guest.pages());
  claim = PageRecord::reader_claim(guest.header().server_epoch.load(std::memory_order_acquire));
}

void ServerState::poison_in_others(std::uint64_t page, Counters& counters) const noexcept {
  for (const auto& peer : peers)
    if (peer->resolver().covers(page) && peer->resolver().record().claim(page, claim))
      peer->resolver().poison(page, true, counters, Resolver::kOnce);
}

std::vector<Peer*> ServerState::peers_of(std::uint32_t reader) const {
  std::vector<Peer*> mine;
  for (std::size_t i = 0; i < peers.size(); ++i)
    if (config.readers >= peers.size() ? i == reader % peers.size() : i % config.readers == reader)
      mine.push_back(peers[i].get());
  return mine;
}

}  // namespace uffd
