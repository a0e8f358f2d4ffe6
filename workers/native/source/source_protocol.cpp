#include "source/source_protocol.hpp"

#include <cstring>

namespace uffd::wire {

namespace {

bool inside(const Header& header, const Shape& shape) noexcept {
  return header.count != 0 && header.first < shape.pages && header.count <= shape.pages - header.first;
}

// What is wrong with a header, or null.
const char* fault_of(const Header& header, const Shape& shape, Reader reader) noexcept {
  if (header.magic != kMagic) return "not the protocol of a source (wrong magic)";
  if (header.version != kVersion) return "another version of the protocol";
  const bool at_source = reader == Reader::source;
  const std::uint64_t payload = header.payload_bytes;
  switch (static_cast<FrameType>(header.type)) {
    case FrameType::hello:
      if (!at_source) break;
      return payload == sizeof(Hello) ? nullptr : "a hello of the wrong size";
    case FrameType::request:
      if (!at_source) break;
      if (payload != 0) return "a request with a payload";
      if (header.count > kMostPages) return "a request for too many pages at once";
      if (header.id == 0) return "a request without an id";
      return inside(header, shape) ? nullptr : "a request for pages outside the region";
    case FrameType::push:
      if (!at_source) break;
      if (header.count == 0 || header.count > kMostPages) return "a push with a bad number of pages a batch";
      return payload == shape.bitmap_bytes() ? nullptr : "a push whose bitmap is not the region's";
    case FrameType::welcome:
    case FrameType::pushed:
      if (at_source) break;
      return payload == 0 ? nullptr : "an empty frame with a payload";
    case FrameType::refused:
      if (at_source) break;
      return payload <= kLongestRefusal ? nullptr : "a refusal of too many words";
    case FrameType::pages:
      if (at_source) break;
      if (!inside(header, shape)) return "pages outside the region";
      if (header.count > shape.largest_payload() / shape.page_bytes) return "too many pages in a frame";
      return payload == header.count * shape.page_bytes ? nullptr : "pages whose size does not fit their number";
  }
  return "a frame of a kind that does not belong here";
}

}  // namespace

Parsed parse(std::span<const std::byte> buffer, const Shape& shape, Reader reader) noexcept {
  Parsed parsed;
  if (buffer.size() < sizeof(Header)) return parsed;
  std::memcpy(&parsed.header, buffer.data(), sizeof(Header));
  if (const char* fault = fault_of(parsed.header, shape, reader)) {
    parsed.state = Parsed::State::bad;
    parsed.error = fault;
    return parsed;
  }
  if (buffer.size() - sizeof(Header) < parsed.header.payload_bytes) return parsed;
  parsed.payload = buffer.subspan(sizeof(Header), parsed.header.payload_bytes);
  parsed.state = Parsed::State::frame;
  return parsed;
}

}  // namespace uffd::wire
