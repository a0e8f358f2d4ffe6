// The same depths as libFuzzer's, with inputs that are nearly good: frames of the protocol with a few bytes changed, cut,
// doubled.
#include <cstring>
#include <random>
#include <vector>

#include "../fuzz/hostile.hpp"
#include "check.hpp"
#include "source/source_protocol.hpp"

namespace {

using namespace uffd;

std::vector<std::uint8_t> nearly_good(std::mt19937& random) {
  std::vector<std::uint8_t> input{static_cast<std::uint8_t>(random()), static_cast<std::uint8_t>(random())};
  for (unsigned frames = random() % 4; frames != 0; --frames) {
    const auto type = static_cast<wire::FrameType>(random() % 9);
    const std::uint32_t count = random() % 20;
    const std::uint32_t payload = type == wire::FrameType::pages  ? count * 4096
                                  : type == wire::FrameType::push ? 2
                                                                  : random() % 40;
    const wire::Header header = wire::header(type, payload, count, random() % 3, random() % 18);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&header);
    input.insert(input.end(), bytes, bytes + sizeof header);
    if (random() % 8 != 0) input.resize(input.size() + payload, static_cast<std::uint8_t>(random()));
  }
  for (unsigned changes = random() % 4; changes != 0; --changes)
    input[random() % input.size()] = static_cast<std::uint8_t>(random());
  if (random() % 4 == 0) input.resize(1 + random() % input.size());
  return input;
}

void try_often(void (*target)(const std::uint8_t*, std::size_t), int times) {
  std::mt19937 random(11);
  for (int i = 0; i < times; ++i) {
    const std::vector<std::uint8_t> input = nearly_good(random);
    target(input.data(), input.size());
  }
}

}  // namespace

TEST("whatever a peer sends, what the parser takes for a frame lies inside what was received and inside the guest") {
  try_often(&hostile::parser, 20'000);
}

TEST("whatever a page server sends, the source ends the conversation and serves the next") {
  try_often(&hostile::to_source, 2'000);
}

TEST("whatever a source sends, the page server's side takes no more pages than there are, and ends") {
  try_often(&hostile::to_page_server, 100);
}
