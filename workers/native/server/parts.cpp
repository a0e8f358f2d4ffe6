#include "server/parts.hpp"

#include <algorithm>

#include "kernel/vocabulary.hpp"

namespace uffd {

void split_by_zeros(const ServerState& server, const Resolver& resolver, const PageRun& run, std::vector<Part>& parts) {
  const std::uint64_t page_bytes = server.guest.config().page_bytes;
  const PageRecord& record = resolver.record();
  if (resolver.unit_of(run.first).count != 1) {
    const bool zero = record.was_discarded(run.first);
    return parts.push_back({run, zero ? server.zeros.data() : server.mapped()->at(run.first * page_bytes), false});
  }
  const bool small = page_bytes == kBasePageBytes;  // huge pages have no UFFDIO_ZEROPAGE
  for (std::uint64_t page = run.first; page < run.first + run.count; ++page) {
    const bool zero = record.was_discarded(page) || (small && server.mapped()->zero(page * page_bytes));
    const std::byte* from = !zero ? server.mapped()->at(page * page_bytes) : small ? nullptr : server.zeros.data();
    if (!parts.empty() && parts.back().zero == zero && small)
      ++parts.back().run.count;
    else
      parts.push_back({{page, 1}, from, zero && small});
  }
}

void split_off_first(std::uint64_t wanted, std::uint64_t page_bytes, std::vector<Part>& parts) {
  const auto holds = [wanted](const Part& part) { return wanted - part.run.first < part.run.count; };
  const auto found = std::find_if(parts.begin(), parts.end(), holds);
  if (found == parts.end()) return;
  const Part whole = *found;
  parts.erase(found);
  const auto cut = [&](std::uint64_t first, std::uint64_t end) {
    const std::byte* from = whole.from == nullptr ? nullptr : whole.from + (first - whole.run.first) * page_bytes;
    return Part{{first, static_cast<std::uint32_t>(end - first)}, from, whole.zero};
  };
  const std::uint64_t first = whole.run.first, end = first + whole.run.count;
  if (wanted + 1 < end) parts.insert(parts.begin(), cut(wanted + 1, end));
  if (first < wanted) parts.insert(parts.begin(), cut(first, wanted));
  parts.insert(parts.begin(), cut(wanted, wanted + 1));
}

}  // namespace uffd
