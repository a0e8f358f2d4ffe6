#include "vcpu/page_check.hpp"

#include "vcpu/signals.hpp"

namespace uffd {

// On a mapping that refuses to sleep, a page that is missing raises SIGBUS, and this is no touch that could exit. On another one
// it is resolved again, unless the run is being stopped: then it reads as zeros.
WrongWord wrong_words_of(const Vcpu& vcpu, std::uint64_t page) noexcept {
  struct Check {
    const Books& books;
    std::uint64_t page;
    WrongWord wrong = {};
  } check{vcpu.books(), page};
  const auto read = [](void* raw) {
    auto& now = *static_cast<Check*>(raw);
    now.wrong.add_those_of(now.books.contents, now.page, reinterpret_cast<const std::uint64_t*>(now.books.at(now.page)));
  };
  return guarded(read, &check) && !vcpu.stopping() ? check.wrong : WrongWord{};
}

}  // namespace uffd
