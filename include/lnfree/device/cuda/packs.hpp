#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/rounding.hpp>
#include <lnfree/device/cuda/runtime.hpp>

namespace lnfree::cuda {

/// N numbers that one thread moves together, in as few instructions as possible: of up to 16 bytes each.
template <int N, class T>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Pack {
  T values[N];
};

/// How many numbers of type T make up 16 bytes.
template <class T>
inline constexpr int pack_size = 16 / sizeof(T);

/// How many numbers a thread rounds to eight bits at a time.
inline constexpr int factor_pack = pack_size<std::uint8_t>;

/// N numbers in registers.
template <int N>
struct Floats {
  float values[N];
  __device__ float& operator[](int i) { return values[i]; }
  __device__ float operator[](int i) const { return values[i]; }
};

template <int N, class T>
__device__ Floats<N> floats(const Pack<N, T>& pack) {
  Floats<N> numbers;
#pragma unroll
  for (int i = 0; i < N; ++i) numbers[i] = static_cast<float>(pack.values[i]);
  return numbers;
}

template <int N, class T>
__device__ Floats<N> load(const T* from) {
  const Pack<N, std::remove_const_t<T>> pack =
      *reinterpret_cast<const Pack<N, std::remove_const_t<T>>*>(from);
  return floats(pack);
}

/// A pack that a thread has stored, and where.
template <int N, class T>
struct Stored {
  const T* at;
  Pack<N, T> pack;
};

/// Writes a pack to global memory in as few instructions as possible. In some kernels nvcc splits a plain
/// assignment into stores of two and four bytes.
template <int N, class T>
__device__ Stored<N, T> store(T* to, const Pack<N, T>& pack) {
#if defined(__CUDA_ARCH__)
  const std::size_t global = __cvta_generic_to_global(to);
  constexpr std::size_t bytes = sizeof(pack);
  if constexpr (bytes % 16 == 0) {
    struct Words {
      uint4 of[bytes / 16];
    };
    const Words words = std::bit_cast<Words>(pack);
#pragma unroll
    for (std::size_t i = 0; i < bytes / 16; ++i) {
      asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(global + 16 * i), "r"(words.of[i].x),
                   "r"(words.of[i].y), "r"(words.of[i].z), "r"(words.of[i].w)
                   : "memory");
    }
    return {to, pack};
  }
  if constexpr (bytes == 8) {
    const uint2 words = std::bit_cast<uint2>(pack);
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(global), "r"(words.x), "r"(words.y) : "memory");
    return {to, pack};
  }
#endif
  *reinterpret_cast<Pack<N, T>*>(to) = pack;
  return {to, pack};
}

template <int N, class T>
__device__ Stored<N, T> store(T* to, const Floats<N>& numbers) {
  Pack<N, T> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) pack.values[i] = rounded<T>(numbers[i]);
  return store(to, pack);
}

/// Whether all rows of a matrix are made of whole, aligned packs of N.
template <int N, class T>
bool has_whole_packs(Matrix<T> m) {
  return m.cols % N == 0 && m.stride % N == 0 &&
         reinterpret_cast<std::uintptr_t>(m.data) % alignof(Pack<N, T>) == 0;
}

/// Calls body(n) with n() == N if all rows of all matrices are made of whole, aligned packs of N, else with
/// n() == 1.
template <int N, class Body, class... T>
void with_packs(const Body& body, Matrix<T>... matrices) {
  if ((... && has_whole_packs<N>(matrices))) {
    body(std::integral_constant<int, N>());
  } else {
    body(std::integral_constant<int, 1>());
  }
}

/// If there are no gaps between the rows of any matrix, turns each matrix into a single long row.
template <class... T>
void as_one_row(Matrix<T>&... matrices) {
  if (!(... && matrices.is_contiguous())) return;
  ((matrices = {matrices.data, 1, matrices.size()}), ...);
}

/// The shared memory that a block can ask for on all supported GPUs. Compute capability 8.6 sets the limit;
/// 8.0 and 9.0 have more.
inline constexpr std::size_t max_shared_bytes = 99 << 10;

inline constexpr int elementwise_threads = 256;

/// One thread for each pack calls body.at<N>(row, column of the pack's first number). A block stays within a
/// row.
template <int N, class Body>
__global__ void __launch_bounds__(elementwise_threads)
    elementwise_kernel(Index cols, unsigned blocks_per_row, Body body) {
  const unsigned row = blockIdx.x / blocks_per_row, block = blockIdx.x % blocks_per_row;
  const Index col = (static_cast<Index>(block) * blockDim.x + threadIdx.x) * N;
  if (col < cols) body.template at<N>(static_cast<Index>(row), col);
}

/// Launches elementwise_kernel; `cols` is a multiple of N.
template <int N, class Body>
void for_each_pack(Stream& stream, Index rows, Index cols, const Body& body) {
  const Index packs = cols / N;
  const int threads = static_cast<int>(std::min(Index{elementwise_threads}, (packs + 31) / 32 * 32));
  if (rows == 0 || packs == 0) return;
  const Index blocks_per_row = (packs + threads - 1) / threads;
  stream.launch(elementwise_kernel<N, Body>, rows * blocks_per_row, threads, 0, cols,
                static_cast<unsigned>(blocks_per_row), body);
}

}  // namespace lnfree::cuda
