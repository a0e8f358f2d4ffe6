#include <cstdlib>
#include <cstring>
#include <random>

#include "check.hpp"
#include "source/source_protocol.hpp"

using namespace uffd::wire;

namespace {

constexpr Shape kShape{1024, 4096};

std::vector<std::byte> bytes_of(const Header& header, std::size_t payload = 0) {
  std::vector<std::byte> bytes(sizeof header + payload);
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

std::string fault(const Header& header, Reader reader, const Shape& shape = kShape) {
  const auto bytes = bytes_of(header);
  const Parsed parsed = parse(bytes, shape, reader);
  return parsed.state == Parsed::State::bad ? parsed.error : "";
}

std::uint64_t fuzz_inputs() {
  const char* asked = std::getenv("UFFD_LOADGEN_FUZZ_INPUTS");
  return asked == nullptr ? 20'000 : std::strtoull(asked, nullptr, 10);
}

}  // namespace

TEST("a frame is whole when its last byte is there, and not before") {
  const auto bytes = bytes_of(header(FrameType::pages, 2 * 4096, 2, 9, 100), 2 * 4096 + 7);
  for (std::size_t size : {std::size_t{0}, std::size_t{1}, sizeof(Header) - 1, sizeof(Header), sizeof(Header) + 8191})
    CHECK(parse({bytes.data(), size}, kShape, Reader::page_server).state == Parsed::State::more);
  const Parsed parsed = parse(bytes, kShape, Reader::page_server);
  CHECK(parsed.state == Parsed::State::frame);
  CHECK(parsed.type() == FrameType::pages);
  CHECK_EQUAL(parsed.header.first, 100u);
  CHECK_EQUAL(parsed.payload.size(), 8192u);
  CHECK_EQUAL(parsed.bytes(), sizeof(Header) + 8192);
}

TEST("a frame that is not the protocol's is refused from its header alone, with the reason") {
  Header bad = header(FrameType::request, 0, 1, 1, 0);
  bad.magic = 0x20544547;  // "GET "
  CHECK_EQUAL(fault(bad, Reader::source), "not the protocol of a source (wrong magic)");
  bad = header(FrameType::request, 0, 1, 1, 0);
  bad.version = 9;
  CHECK_EQUAL(fault(bad, Reader::source), "another version of the protocol");
  CHECK_EQUAL(fault(header(FrameType::request, 0, 513, 1, 0), Reader::source), "a request for too many pages at once");
  CHECK_EQUAL(fault(header(FrameType::request, 0, 1, 0, 0), Reader::source), "a request without an id");
  CHECK_EQUAL(fault(header(FrameType::request, 1, 1, 1, 0), Reader::source), "a request with a payload");
  for (const auto& [first, count] : {std::pair<std::uint64_t, std::uint32_t>{1024, 1}, {1023, 2}, {~0ull, 2}, {0, 0}}) {
    CHECK_EQUAL(fault(header(FrameType::request, 0, count, 1, first), Reader::source), "a request for pages outside the region");
    CHECK_EQUAL(fault(header(FrameType::pages, count * 4096, count, 1, first), Reader::page_server), "pages outside the region");
  }
  CHECK_EQUAL(fault(header(FrameType::pages, 4095, 1, 1, 0), Reader::page_server), "pages whose size does not fit their number");
  CHECK_EQUAL(fault(header(FrameType::pages, 65 * 4096, 65, 1, 0), Reader::page_server), "too many pages in a frame");
  CHECK_EQUAL(fault(header(FrameType::refused, 401), Reader::page_server), "a refusal of too many words");
  CHECK_EQUAL(fault(header(FrameType::push, 127, 16), Reader::source), "a push whose bitmap is not the region's");
  CHECK_EQUAL(fault(header(FrameType::push, 128, 0), Reader::source), "a push with a bad number of pages a batch");
  CHECK_EQUAL(fault(header(FrameType::hello, 31), Reader::source), "a hello of the wrong size");
}

TEST("what one side sends is refused when the other side sends it") {
  const std::string wrong = "a frame of a kind that does not belong here";
  for (const FrameType type : {FrameType::welcome, FrameType::refused, FrameType::pages, FrameType::pushed})
    CHECK_EQUAL(fault(header(type), Reader::source), wrong);
  for (const FrameType type : {FrameType::hello, FrameType::request, FrameType::push})
    CHECK_EQUAL(fault(header(type), Reader::page_server), wrong);
  CHECK_EQUAL(fault(header(static_cast<FrameType>(77)), Reader::source), wrong);
}

// Random headers near good ones, random bytes, cut anywhere: never a read outside the buffer (the sanitizers look), never a
// frame that lies outside the region, never a wait for more than the largest frame.
TEST("whatever bytes come, what is taken for a frame lies inside the region") {
  std::mt19937_64 random(1);
  const auto any = [&random](auto... values) {
    const std::uint64_t all[] = {static_cast<std::uint64_t>(values)...};
    return all[random() % (sizeof all / sizeof all[0])];
  };
  std::uint64_t frames = 0, bad = 0, more = 0;
  for (std::uint64_t i = 0, inputs = fuzz_inputs(); i < inputs; ++i) {
    const Shape shape{any(1, 7, 1024, 1ull << 32), any(4096, 2 << 20)};
    std::vector<std::byte> buffer(random() % 3 == 0 ? sizeof(Header) : random() % 9000);
    for (std::size_t at = 0; at < buffer.size(); at += sizeof(std::uint64_t)) {
      const std::uint64_t eight = random();
      std::memcpy(buffer.data() + at, &eight, std::min(sizeof eight, buffer.size() - at));
    }
    if (random() % 4 != 0 && buffer.size() >= sizeof(Header)) {
      Header near =
          header(static_cast<FrameType>(random() % 9), static_cast<std::uint32_t>(any(0, 1, 32, 128, 4096, 8192, ~0u)),
                 static_cast<std::uint32_t>(any(0, 1, 2, 512, 513, ~0u)), any(0, 1, ~0ull), any(0, 1, 6, 1023, 1024, ~0ull));
      if (random() % 16 == 0) near.version = static_cast<std::uint16_t>(random());
      std::memcpy(buffer.data(), &near, sizeof near);
    }
    const Reader reader = random() % 2 == 0 ? Reader::source : Reader::page_server;
    const Parsed parsed = parse(buffer, shape, reader);
    bad += parsed.state == Parsed::State::bad;
    more += parsed.state == Parsed::State::more;
    const std::uint64_t largest = std::max<std::uint64_t>({shape.largest_payload(), shape.bitmap_bytes(), kLongestRefusal, 32});
    if (parsed.state == Parsed::State::more && buffer.size() >= sizeof(Header)) CHECK(parsed.header.payload_bytes <= largest);
    if (parsed.state != Parsed::State::frame) continue;
    ++frames;
    CHECK(parsed.bytes() <= buffer.size());
    if (parsed.type() == FrameType::pages || parsed.type() == FrameType::request)
      CHECK(parsed.header.count != 0 && parsed.header.first + parsed.header.count <= shape.pages);
    if (parsed.type() == FrameType::pages) CHECK_EQUAL(parsed.payload.size(), parsed.header.count * shape.page_bytes);
  }
  CHECK(frames != 0 && bad != 0 && more != 0);
}
