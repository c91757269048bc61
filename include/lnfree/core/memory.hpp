#pragma once

#include <cstddef>
#include <utility>

#include <lnfree/core/tensor.hpp>

namespace lnfree {

/// Bytes of device memory by use.
struct MemoryPlan {
  std::size_t parameters = 0;   ///< Weights, and their master copies.
  std::size_t gradients = 0;    ///< Of all parameters; 0 in a model for evaluation.
  std::size_t optimizer = 0;    ///< 0 in the plan of a model alone.
  std::size_t activations = 0;  ///< Everything that passes need.
  std::size_t teacher = 0;      ///< A model that is learned from, and what is kept of its passes.
  /// All of it together.
  std::size_t total() const { return parameters + gradients + optimizer + activations + teacher; }
};

/// One block of device memory, zeroed, freed with its owner.
template <class Device>
class Buffer {
 public:
  Buffer() = default;
  /// Takes `bytes` bytes, which hold zeros; throws Error where there is too little memory.
  Buffer(Device& device, std::size_t bytes) : device_(&device), bytes_(bytes) {
    if (bytes == 0) return;
    data_ = allocate(device, bytes);
    fill_zero(device, data_, bytes);
  }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer(std::move(other)).swap(*this);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) deallocate(*device_, data_);
  }

  /// The first byte.
  void* data() const { return data_; }
  /// How many bytes it has.
  std::size_t bytes() const { return bytes_; }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  Device* device_ = nullptr;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Hands out pieces of one block of memory. The same code runs twice: first without memory, to count the
/// bytes, then over a buffer of that size.
class Arena {
 public:
  /// Only counts bytes: every piece is a null pointer.
  Arena() = default;
  /// Hands out the memory at `base`; with null it only counts bytes.
  explicit Arena(void* base) : base_(static_cast<std::byte*>(base)) {}

  /// The next `count` elements, aligned for vectors.
  template <class T>
  T* take(Index count) {
    T* piece = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + alignment - 1) / alignment * alignment;
    peak_ = peak_ > used_ ? peak_ : used_;
    return piece;
  }

  /// The next rows * cols elements as a matrix.
  template <class T>
  Matrix<T> matrix(Index rows, Index cols) {
    return {take<T>(rows * cols), rows, cols};
  }

  /// Everything taken since the `position` of an earlier used() may be handed out again.
  void rewind(std::size_t position) { used_ = position; }

  /// Bytes handed out so far.
  std::size_t used() const { return used_; }
  /// The most that was in use at a time, in bytes.
  std::size_t peak() const { return peak_; }

 private:
  static constexpr std::size_t alignment = 64;  // of a cache line and the widest vector register

  std::byte* base_ = nullptr;
  std::size_t used_ = 0;
  std::size_t peak_ = 0;
};

}  // namespace lnfree
