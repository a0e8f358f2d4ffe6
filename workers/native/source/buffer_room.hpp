// How much memory the peers of a source can make it take.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "source/tcp.hpp"

namespace uffd {

/// Memory that connections may take beside the guest's: a peer chooses how much of it is asked for.
class BufferRoom {
 public:
  explicit BufferRoom(std::uint64_t bytes) : left_(bytes) {}
  /// Gives back what it holds when it goes.
  class Lease {
   public:
    Lease() = default;
    Lease(BufferRoom* room, std::uint64_t bytes) : room_(room), bytes_(bytes) {}
    Lease(Lease&& other) noexcept : room_(std::exchange(other.room_, nullptr)), bytes_(other.bytes_) {}
    Lease& operator=(Lease&& other) noexcept {
      std::swap(room_, other.room_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Lease() {
      if (room_ != nullptr) room_->left_.fetch_add(bytes_);
    }

   private:
    BufferRoom* room_ = nullptr;
    std::uint64_t bytes_ = 0;
  };
  /// Throws tcp::Lost when there is not that much left.
  Lease take(std::uint64_t bytes) {
    std::uint64_t left = left_.load();
    do {
      if (left < bytes) throw tcp::Lost("the buffers of all connections are taken");
    } while (!left_.compare_exchange_weak(left, left - bytes));
    return {this, bytes};
  }

 private:
  std::atomic<std::uint64_t> left_;
};

}  // namespace uffd
