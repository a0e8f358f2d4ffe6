// The remote source's protocol: frames over TCP, each a fixed header and a payload, little-endian as everything this runs on.
// The parser is pure and looks at a buffer; every size is checked before so many bytes are waited for.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace uffd::wire {

inline constexpr std::uint32_t kMagic = 0x53474c55;  // "ULGS"
inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::uint32_t kMostPages = 512;  // of one request, and of one pushed batch
inline constexpr std::uint32_t kLongestRefusal = 400;

enum class FrameType : std::uint16_t {
  hello = 1,  ///< page server -> source, first on every connection; payload: Hello
  welcome,    ///< source -> page server: the memory asked for is the memory here
  refused,    ///< source -> page server: it is not; payload: why, in words
  request,    ///< page server -> source: `count` pages from `first`, to be answered under `id`
  pages,      ///< source -> page server: `count` pages from `first`; `id` of the request, 0 when pushed
  push,       ///< page server -> source: push the pages of this bitmap in order, `count` a batch, at most `id` bytes a second
  pushed,     ///< source -> page server: every page of the bitmap has been sent
};

struct Header {
  std::uint32_t magic = kMagic;
  std::uint16_t version = kVersion;
  std::uint16_t type = 0;
  std::uint32_t payload_bytes = 0;
  std::uint32_t count = 0;
  std::uint64_t id = 0;
  std::uint64_t first = 0;
};
static_assert(sizeof(Header) == 32);

struct Hello {
  std::uint64_t session = 0;  ///< one a guest: its connections share what was sent
  std::uint64_t region_bytes = 0;
  std::uint64_t page_bytes = 0;
  std::uint64_t seed = 0;
};

/// What both sides have of the guest region.
struct Shape {
  std::uint64_t pages = 0;
  std::uint64_t page_bytes = 0;
  /// Pages travel in frames of at most this: one large page, or a few small ones.
  std::uint64_t largest_payload() const noexcept { return std::max<std::uint64_t>(page_bytes, 256 << 10); }
  std::uint64_t bitmap_bytes() const noexcept { return (pages + 7) / 8; }
};

enum class Reader { source, page_server };

struct Parsed {
  enum class State { more, frame, bad };
  State state = State::more;
  Header header;
  std::span<const std::byte> payload;
  const char* error = "";  ///< when bad: what is wrong
  std::size_t bytes() const noexcept { return sizeof(Header) + payload.size(); }
  FrameType type() const noexcept { return static_cast<FrameType>(header.type); }
};

/// The first frame of `buffer`, as `reader` may receive it; `more` when it is not whole, and then never larger than announced.
Parsed parse(std::span<const std::byte> buffer, const Shape& shape, Reader reader) noexcept;

inline Header header(FrameType type, std::uint32_t payload_bytes = 0, std::uint32_t count = 0, std::uint64_t id = 0,
                     std::uint64_t first = 0) noexcept {
  return {kMagic, kVersion, static_cast<std::uint16_t>(type), payload_bytes, count, id, first};
}

inline void append(std::vector<std::byte>& to, const Header& header) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&header);
  to.insert(to.end(), bytes, bytes + sizeof header);
}

}  // namespace uffd::wire
