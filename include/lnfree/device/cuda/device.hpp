#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <string>

#include <lnfree/core/bfloat16.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/packs.hpp>
#include <lnfree/device/cuda/products.hpp>
#include <lnfree/device/cuda/runtime.hpp>

namespace lnfree::cuda {

/// What the primitives of one GPU share.
struct Handles {
  Handles() : scratch(static_cast<float*>(stream.allocate(scratch_size * sizeof(float)))) {}
  Handles(const Handles&) = delete;
  Handles& operator=(const Handles&) = delete;
  ~Handles() { stream.deallocate(scratch); }

  Stream stream;
  Products products{stream};
  /// Partial sums of the primitive that is running.
  float* scratch;
  static constexpr Index scratch_size = Index{1} << 20;
};

/// An NVIDIA GPU of compute capability 8.0 or higher. Copies of this object share one queue of work. Throws
/// NoDevice if there is no GPU.
struct Gpu {
  /// Shared by copies of the device.
  std::shared_ptr<Handles> handles = std::make_shared<Handles>();
  /// Large, since each chunk of logits costs a pass over the gradient of the output matrix.
  static constexpr Index logits_bytes = Index{1} << 30;

  /// The queue in which kernels are launched.
  Stream& stream() { return handles->stream; }
};

/// A GPU that stores weights, activations and their gradients in bf16, and sums, statistics, entropies,
/// gradients of parameters and master weights in float.
struct Cuda : Gpu {
  using Scalar = BFloat16;
  using Accumulator = float;
};

/// A GPU that stores and multiplies in float throughout (no TF32). Slow; for verification.
struct CudaFp32 : Gpu {
  using Scalar = float;
  using Accumulator = float;
};

struct CudaFP8;      // fp8.hpp
struct CudaFP8Head;  // fp8.hpp
struct CudaInt8;     // int8.hpp

/// A GPU in one of its precisions. All of them compute in float, whatever they store.
template <class D>
concept CudaDevice = std::same_as<D, Cuda> || std::same_as<D, CudaFp32> || std::same_as<D, CudaFP8> ||
                     std::same_as<D, CudaFP8Head> || std::same_as<D, CudaInt8>;

inline void* allocate(Gpu& device, std::size_t bytes) {
  return device.stream().allocate(bytes);
}
inline void deallocate(Gpu& device, void* memory) {
  device.stream().deallocate(memory);
}
inline void fill_zero(Gpu& device, void* memory, std::size_t bytes) {
  device.stream().fill_zero(memory, bytes);
}
inline void copy_to_device(Gpu& device, void* to, const void* from, std::size_t bytes) {
  device.stream().copy_to_device(to, from, bytes);
}
inline void copy_to_host(Gpu& device, void* to, const void* from, std::size_t bytes) {
  device.stream().copy_to_host(to, from, bytes);
}
inline void synchronize(Gpu& device) {
  device.stream().synchronize();
}
inline std::size_t free_bytes(Gpu& device) {
  return device.stream().free_bytes();
}
inline std::string device_name(Gpu& device) {
  return device.stream().device_name();
}

struct Convert {
  const float* from;
  BFloat16* to;

  template <int N>
  __device__ void at(Index, Index j) const {
    store<N>(to + j, load<N>(from + j));
  }
};

inline void convert(Cuda& device, Index count, const float* from, BFloat16* to) {
  with_packs<8>([&](auto n) { for_each_pack<n()>(device.stream(), 1, count, Convert{from, to}); },
                Matrix(from, 1, count), Matrix(to, 1, count));
}

}  // namespace lnfree::cuda

namespace lnfree {
using cuda::Cuda;
using cuda::CudaFp32;
}  // namespace lnfree
