#include "server/config.hpp"

#include "kernel/error.hpp"

namespace uffd {

namespace {

void check(const PrefetchConfig& config, std::uint64_t pages) {
  if (config.name != "none" && config.name != "order" && config.name != "working_set")
    throw ConfigError("prefetch '" + config.name + "' is unknown; it is one of none, order, working_set");
  if (config.batch_pages == 0) throw ConfigError("prefetch.batch_pages must be at least 1");
  for (const std::uint32_t page : config.pages)
    if (page >= pages)
      throw ConfigError("the working set holds page " + std::to_string(page) + ", which the region does not have");
}

}  // namespace

Wait wait_of(const std::string& name) {
  if (name == "poll") return Wait::poll;
  if (name == "epoll") return Wait::epoll;
  if (name == "spin") return Wait::spin;
  throw ConfigError("page_server.wait '" + name + "' is unknown; it is one of poll, epoll, spin");
}

void check(const PageServerConfig& config, const Guest& guest) {
  if (config.events_per_read == 0) throw ConfigError("page_server.events_per_read must be at least 1");
  if (const std::uint32_t most = Guest::most_readers(guest.config()); config.readers > most)
    throw ConfigError("page_server.readers is " + std::to_string(config.readers) + " and the guest was made for at most " +
                      std::to_string(most));
  if (config.fault_around_pages == 0) throw ConfigError("page_server.fault_around_pages must be at least 1");
  if (!(config.delay_us >= 0.0)) throw ConfigError("page_server.delay_us must not be negative");
  check(config.prefetch, guest.pages());
}

}  // namespace uffd
