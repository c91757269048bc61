#pragma once

#include <cstddef>
#include <cstring>

namespace lnfree::cuda {

/// Host memory in which small copies to the device wait for their turn, so that the program need not wait.
class Staging {
 public:
  static constexpr std::size_t size = std::size_t{1} << 20;

  /// Uses `size` bytes at `memory`.
  explicit Staging(void* memory) : memory_(static_cast<std::byte*>(memory)) {}

  /// A copy of the bytes, which stays until clear(); null if there is no room for it.
  const void* keep(const void* from, std::size_t bytes) {
    if (bytes > size - used_) return nullptr;
    std::byte* const place = memory_ + used_;
    std::memcpy(place, from, bytes);
    used_ += (bytes + alignment - 1) / alignment * alignment;
    return place;
  }
  /// Call it when all copies have been made.
  void clear() { used_ = 0; }

 private:
  static constexpr std::size_t alignment = 64;
  static_assert(size % alignment == 0);

  std::byte* memory_;
  std::size_t used_ = 0;
};

}  // namespace lnfree::cuda
