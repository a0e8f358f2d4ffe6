// What bytes of a peer's choosing do to the remote source's protocol, at three depths: the parser alone, a whole source with a
// hostile page server, a page server's side with a hostile source. Each takes any bytes and aborts when it finds something wrong;
// libFuzzer chooses them in `make soak`, a generator of half-good ones in the native tests.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hostile {

void parser(const std::uint8_t* data, std::size_t size);
void to_source(const std::uint8_t* data, std::size_t size);
void to_page_server(const std::uint8_t* data, std::size_t size);

}  // namespace hostile
