#include "kernel/numa.hpp"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>

#include "kernel/error.hpp"

namespace uffd {

namespace {

constexpr std::size_t kBatch = 4096;
constexpr std::uint32_t kMostNodes = 1024;  // of any Linux
constexpr unsigned kWordBits = 8 * sizeof(unsigned long);

bool read_number(const std::string& text, std::uint32_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

NumaPolicy numa_policy(const std::string& text) {
  if (text == "default") return {};
  if (text == "local") return {NumaMode::local, 0};
  if (text == "interleave") return {NumaMode::interleave, 0};
  NumaPolicy policy{NumaMode::node, 0};
  if (text.starts_with("node:") && read_number(text.substr(5), policy.node) && policy.node < kMostNodes) return policy;
  throw ConfigError("memory.numa=" + text + " is unknown: use default, local, interleave or node:N");
}

std::vector<int> parse_kernel_list(const std::string& text) {
  std::vector<int> numbers;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    const std::string part = text.substr(at, comma - at);
    const std::size_t dash = part.find('-');
    std::uint32_t first = 0, last = 0;
    if (read_number(part.substr(0, dash), first) && read_number(part.substr(dash == std::string::npos ? 0 : dash + 1), last))
      for (std::uint32_t number = first; number <= last; ++number) numbers.push_back(static_cast<int>(number));
    at = comma + 1;
  }
  return numbers;
}

std::vector<int> nodes_with_memory() {
  std::ifstream list("/sys/devices/system/node/has_memory");
  std::string text;
  list >> text;
  return parse_kernel_list(text);
}

void place_memory(const Mapping& mapping, const NumaPolicy& policy) {
  if (policy.mode == NumaMode::inherit) return;
  std::vector<unsigned long> mask(kMostNodes / kWordBits);
  const auto add = [&mask](std::uint32_t node) { mask[node / kWordBits] |= 1ul << (node % kWordBits); };
  int mode = MPOL_LOCAL;
  if (policy.mode == NumaMode::node) {
    mode = MPOL_BIND;
    add(policy.node);
  } else if (policy.mode == NumaMode::interleave) {
    mode = MPOL_INTERLEAVE;
    for (const int node : nodes_with_memory()) add(static_cast<std::uint32_t>(node));
  }
  const bool with_nodes = mode != MPOL_LOCAL;
  if (::syscall(SYS_mbind, mapping.data(), mapping.bytes(), mode, with_nodes ? mask.data() : nullptr,
                with_nodes ? kMostNodes + 1 : 0, 0) != 0)
    throw KernelError("mbind", errno, mapping.address(), mapping.bytes());
}

std::vector<std::uint64_t> pages_on_nodes(const std::byte* region, std::uint64_t pages, std::uint64_t page_bytes) {
  const std::uint64_t step = (pages + kMostPagesLookedAt - 1) / kMostPagesLookedAt;
  std::vector<std::uint64_t> found;
  std::vector<const void*> at;
  std::vector<int> nodes(kBatch);
  for (std::uint64_t page = 0; page < pages;) {
    at.clear();
    for (; page < pages && at.size() < kBatch; page += step) at.push_back(region + page * page_bytes);
    if (::syscall(SYS_move_pages, 0, at.size(), at.data(), nullptr, nodes.data(), 0) != 0)
      throw KernelError("move_pages", errno, reinterpret_cast<std::uint64_t>(at.front()));
    for (std::size_t i = 0; i < at.size(); ++i) {
      if (nodes[i] < 0) continue;  // not mapped, or poisoned
      const auto node = static_cast<std::size_t>(nodes[i]);
      if (found.size() <= node) found.resize(node + 1);
      ++found[node];
    }
  }
  return found;
}

}  // namespace uffd
