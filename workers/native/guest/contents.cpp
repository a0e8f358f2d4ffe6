#include "guest/contents.hpp"

#include "guest/snapshot_file.hpp"
#include "kernel/error.hpp"

namespace uffd {

void Contents::copy_from_file(std::uint64_t page, void* to) const {
  if (file_ == nullptr) throw ConfigError("the contents are a snapshot's, and no snapshot was opened");
  if (const int error = file_->read({page, 1}, static_cast<std::byte*>(to)))
    throw KernelError("reading the snapshot " + file_->path(), error, page * words_ * 8, words_ * 8);
}

}  // namespace uffd
