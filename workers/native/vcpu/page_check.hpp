// verify=page: all words of a page, right after a vCPU has touched it.
#pragma once

#include <cstdint>

#include "guest/wrong_word.hpp"
#include "vcpu/vcpu.hpp"

namespace uffd {

/// None where the page was dropped meanwhile, by a balloon or by the end of the run: it is read at the end like every other page.
/// On the vCPU's own thread.
WrongWord wrong_words_of(const Vcpu& vcpu, std::uint64_t page) noexcept;

}  // namespace uffd
