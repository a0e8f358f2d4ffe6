// libFuzzer's entry: which of the three depths is chosen when it is built (-DFUZZ_TARGET=parser, ...).
#include "hostile.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  hostile::FUZZ_TARGET(data, size);
  return 0;
}
