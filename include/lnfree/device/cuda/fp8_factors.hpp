#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include <lnfree/core/float8.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/factor_rounding.hpp>
#include <lnfree/device/cuda/packs.hpp>
#include <lnfree/device/cuda/reduce.hpp>
#include <lnfree/device/cuda/rounding.hpp>
#include <lnfree/device/cuda/runtime.hpp>

/// Rounding of product factors to FP8. Each matrix has one scale, the least power of two with which
/// its largest magnitude does not overflow, so the scale depends on the matrix alone. The largest magnitude
/// is known only after all elements have been read. To read them only once, they are rounded at the same time
/// with the scale of the previous matrix, and rounded again only if the scale has changed. A wrong guess
/// costs time and never changes the result.
namespace lnfree::cuda {

/// The scale of a matrix, in device memory; all zero at first.
struct Scale {
  float value;        ///< The factor from rounded to original numbers; also the next guess.
  unsigned max;       ///< The bits of the largest magnitude so far; greater than infinity's for NaN.
  unsigned finished;  ///< Blocks that have finished reading this scale.
};

/// The least power of two by which a number with these bits can be divided to fit F. NaN if the number is not
/// finite, so that the result is not finite either.
template <class F>
__device__ float scale_for(unsigned max) {
  constexpr auto largest = std::bit_cast<std::uint32_t>(F::max);
  constexpr std::uint32_t fraction = 0x7fffffu, infinity = 0x7f800000u;
  if (max >= infinity) return std::bit_cast<float>(infinity | 1u << 22);
  if (max == 0) return 1;
  const int exponent = static_cast<int>(max >> 23) - static_cast<int>(largest >> 23) + 127 +
                       ((max & fraction) > (largest & fraction) ? 1 : 0);
  // The inverse of a scale is a normal number, too.
  return std::bit_cast<float>(static_cast<std::uint32_t>(exponent < 1 ? 1 : exponent) << 23);
}

/// Divides by the scale and gives the bits of the largest magnitude there was. Both are exact.
template <int N>
__device__ unsigned divide(Floats<N>& x, float inverse_scale) {
  unsigned max = 0;
#pragma unroll
  for (int e = 0; e < N; ++e) {
    const unsigned magnitude = std::bit_cast<unsigned>(x[e]) & 0x7fffffffu;
    max = magnitude > max ? magnitude : max;
    x[e] *= inverse_scale;
  }
  return max;
}

template <class F, int N>
__device__ Pack<N, F> rounded_pack(const Floats<N>& x) {
  std::array<std::uint16_t, N / 2> pairs;
#pragma unroll
  for (int e = 0; e < N; e += 2) pairs[static_cast<std::size_t>(e / 2)] = rounded_pair_of<F>(x[e], x[e + 1]);
  return std::bit_cast<Pack<N, F>>(pairs);
}

/// Rounds a matrix of whole packs row by row. A block rounds a pack with each thread at a time.
template <class F>
struct RoundRows {
  using Format = F;
  static constexpr std::size_t shared_bytes = 0;
  Matrix<const BFloat16> from;
  Matrix<F> to;

  Index parts() const { return (from.size() / factor_pack + elementwise_threads - 1) / elementwise_threads; }

  __device__ unsigned round(Index part, float inverse_scale) const {
    const Index packs_per_row = from.cols / factor_pack;
    const Index pack = part * elementwise_threads + threadIdx.x;
    const Index i = from.rows == 1 ? 0 : pack / packs_per_row, j = (pack - i * packs_per_row) * factor_pack;
    if (i >= from.rows || j >= from.cols) return 0;
    Floats<factor_pack> x = load<factor_pack>(from.row(i) + j);
    const unsigned max = divide(x, inverse_scale);
    store(to.row(i) + j, rounded_pack<F>(x));
    return max;
  }
};

/// Rounds a matrix whose rows and columns are whole packs, and its transpose. A block takes a tile at a time.
template <class F>
struct RoundBothWays {
  using Format = F;
  static constexpr int tile = 64, stride = tile + factor_pack;
  static constexpr int threads_per_row = tile / factor_pack;
  static_assert(tile * threads_per_row == elementwise_threads);
  static constexpr std::size_t shared_bytes = std::size_t{tile} * stride;
  Matrix<const BFloat16> from;
  Matrix<F> to, transposed;

  Index tiles_per_row() const { return (from.cols + tile - 1) / tile; }
  Index parts() const { return (from.rows + tile - 1) / tile * tiles_per_row(); }

  __device__ unsigned round(Index part, float inverse_scale) const {
    F* const columns = shared_memory<F>();  // (tile, stride): the tile's transpose
    const Index per_row = (from.cols + tile - 1) / tile;
    const Index top = part / per_row * tile, left = part % per_row * tile;
    const int row = static_cast<int>(threadIdx.x) / threads_per_row;
    const int first = static_cast<int>(threadIdx.x) % threads_per_row * factor_pack;
    unsigned max = 0;
    if (top + row < from.rows && left + first < from.cols) {
      Floats<factor_pack> x = load<factor_pack>(from.row(top + row) + left + first);
      max = divide(x, inverse_scale);
      const Pack<factor_pack, F> pack = rounded_pack<F>(x);
      store(to.row(top + row) + left + first, pack);
#pragma unroll
      for (int e = 0; e < factor_pack; ++e) columns[(first + e) * stride + row] = pack.values[e];
    }
    __syncthreads();
    if (left + row < from.cols && top + first < from.rows) {
      const auto* const pack = reinterpret_cast<const Pack<factor_pack, F>*>(columns + row * stride + first);
      store(transposed.row(left + row) + top + first, *pack);
    }
    __syncthreads();
    return max;
  }
};

/// Rounds with the previous scale, and finds the largest magnitude.
template <class Body>
__global__ void __launch_bounds__(elementwise_threads) round_kernel(Index parts, Body body, Scale* scale) {
  const float inverse = 1 / scale->value;
  unsigned max = 0;
  for (Index part = blockIdx.x; part < parts; part += gridDim.x) {
    const unsigned found = body.round(part, inverse);
    max = found > max ? found : max;
  }
  max = block_max(max, shared_memory<unsigned>());
  if (threadIdx.x == 0) atomicMax(&scale->max, max);
}

/// The rounding of a factor by the kernel that computes it (factor_rounding.hpp), in place of round_kernel.
template <class F>
struct MatrixRounding {
  static constexpr bool whole_rows = false;
  const BFloat16* made = nullptr;  ///< The factor, without gaps between its rows; null if it is not rounded.
  F* to = nullptr;
  Scale* scale = nullptr;
  float inverse = 0;  ///< Of the previous scale.
  unsigned max = 0;   ///< The bits of the largest magnitude that this thread has found.

  bool is_on() const { return made != nullptr; }

  __device__ void begin() {
    if (made != nullptr) inverse = 1 / scale->value;
  }
  template <int N>
  __device__ void take(const Stored<N, BFloat16>& stored) {
    if (made == nullptr) return;
    Floats<N> x = floats(stored.pack);
    const unsigned found = divide(x, inverse);
    max = found > max ? found : max;
    store(to + (stored.at - made), rounded_pack<F>(x));
  }
  template <int N>
  __device__ void end_row(Index) {}
  __device__ void end() {
    if (made == nullptr) return;
    const unsigned of_warp = warp_max(max);
    // Few warps find a larger magnitude, so most skip the atomic operation.
    const volatile unsigned* const largest = &scale->max;
    if (threadIdx.x % 32 == 0 && of_warp > *largest) atomicMax(&scale->max, of_warp);
  }
};

/// Rounds again if the largest magnitude needs another scale, and stores the scale.
template <class Body>
__global__ void __launch_bounds__(elementwise_threads) correct_kernel(Index parts, Body body, Scale* scale) {
  const float value = scale_for<typename Body::Format>(scale->max);
  if (value != scale->value) {
    for (Index part = blockIdx.x; part < parts; part += gridDim.x) body.round(part, 1 / value);
  }
  __syncthreads();
  // Only the last block writes the scale: by then all others have read it.
  if (threadIdx.x == 0 && atomicAdd(&scale->finished, 1u) == gridDim.x - 1) *scale = {value, 0, 0};
}

/// Rounds the matrix of a RoundRows or RoundBothWays and stores its scale, which depends on the matrix alone.
/// `is_guessed`: the kernel that computed the matrix has already rounded it with the previous scale.
template <class Body>
void round_factor(Stream& stream, const Body& body, Scale* scale, bool is_guessed = false) {
  constexpr Index max_blocks = 1024;
  constexpr std::size_t shared = std::max(Body::shared_bytes, elementwise_threads / 32 * sizeof(unsigned));
  const Index parts = body.parts(), blocks = std::min(parts, max_blocks);
  if (!is_guessed) stream.launch(round_kernel<Body>, blocks, elementwise_threads, shared, parts, body, scale);
  stream.launch(correct_kernel<Body>, blocks, elementwise_threads, shared, parts, body, scale);
}

}  // namespace lnfree::cuda
