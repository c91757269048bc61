#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/device.hpp>
#include <lnfree/device/cuda/runtime.hpp>

/// Sums whose order depends on the sizes alone, so that their bits are the same in every run.
namespace lnfree::cuda {

inline constexpr unsigned whole_warp = 0xffffffffu;

/// The sum over a warp's 32 threads, or over each `Lanes` neighbours of them; the same bits in each of those.
template <int Lanes = 32, class T>
__device__ T warp_sum(T value) {
#pragma unroll
  for (int distance = Lanes / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(whole_warp, value, distance);
  return value;
}

/// The largest of a warp's numbers, in each thread.
__device__ inline unsigned warp_max(unsigned value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const unsigned other = __shfl_xor_sync(whole_warp, value, distance);
    value = other > value ? other : value;
  }
  return value;
}

/// The largest of the block's numbers, in each thread. `warps` is shared memory for one number for each warp.
__device__ inline unsigned block_max(unsigned value, unsigned* warps) {
  value = warp_max(value);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  for (unsigned w = 0; w < blockDim.x / 32; ++w) value = warps[w] > value ? warps[w] : value;
  __syncthreads();
  return value;
}

/// The sum over the block's threads, the same bits in each. `warps` is shared memory for one number for each
/// warp.
template <class T>
__device__ T block_sum(T value, T* warps) {
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  T total = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) total += warps[w];
  __syncthreads();
  return total;
}

inline constexpr int column_sum_warps = 8;

/// Each block sums 32 N columns, N in each lane, over one of `parts` parts of the rows. Its warps take the
/// rows in turn. partials (Sums, parts, cols).
template <int N, int Sums, class Body>
__global__ void __launch_bounds__(32 * column_sum_warps)
    column_partials_kernel(Index rows, Index cols, int parts, Body body, float* partials) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int part = static_cast<int>(blockIdx.x % static_cast<unsigned>(parts));
  const Index j = (static_cast<Index>(blockIdx.x / static_cast<unsigned>(parts)) * 32 + lane) * N;
  Floats<N> sums[Sums] = {};
  if (j < cols) {
    const Index end = rows * (part + 1) / parts;
#pragma unroll 4
    for (Index i = rows * part / parts + warp; i < end; i += column_sum_warps)
      body.template add<N>(i, j, sums);
  }
  auto* const of_warps = shared_memory<Floats<N>>();  // (warps, Sums, 32)
#pragma unroll
  for (int s = 0; s < Sums; ++s) of_warps[(warp * Sums + s) * 32 + lane] = sums[s];
  __syncthreads();
  if (warp != 0 || j >= cols) return;
#pragma unroll
  for (int s = 0; s < Sums; ++s) {
    Floats<N> total{};
    for (int w = 0; w < column_sum_warps; ++w) {
#pragma unroll
      for (int e = 0; e < N; ++e) total[e] += of_warps[(w * Sums + s) * 32 + lane][e];
    }
#pragma unroll
    for (int e = 0; e < N; ++e) partials[(static_cast<Index>(s) * parts + part) * cols + j + e] = total[e];
  }
}

inline constexpr int part_warps = 16;  // in a block; they take the parts in turn

/// The arrays to which sums of columns are added.
template <int Sums>
struct ColumnSums {
  float* of[Sums];  // (cols) each
};

/// to.of[s][j] += the sum of partials (Sums, parts, cols) over the parts. One block for each 32 columns.
template <int Sums>
__global__ void __launch_bounds__(32 * part_warps)
    add_parts_kernel(Index cols, int parts, const float* partials, ColumnSums<Sums> to) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const Index s = blockIdx.x % Sums, j = static_cast<Index>(blockIdx.x / Sums) * 32 + lane;
  auto* const of_warps = shared_memory<float>();  // (warps, 32)
  float sum = 0;
  if (j < cols) {
#pragma unroll 4
    for (int part = warp; part < parts; part += part_warps) sum += partials[(s * parts + part) * cols + j];
  }
  of_warps[warp * 32 + lane] = sum;
  __syncthreads();
  if (warp != 0 || j >= cols) return;
  float total = 0;
#pragma unroll
  for (int w = 0; w < part_warps; ++w) total += of_warps[w * 32 + lane];
  // The pointers stay in registers because the index is known at compile time.
#pragma unroll
  for (int k = 0; k < Sums; ++k) {
    if (k == s) to.of[k][j] += total;
  }
}

/// Launches add_parts_kernel on the partial sums in the scratch memory.
template <int Sums>
void add_parts(Gpu& device, Index cols, Index parts, ColumnSums<Sums> to) {
  device.stream().launch(add_parts_kernel<Sums>, Sums * ((cols + 31) / 32), 32 * part_warps,
                         32 * part_warps * sizeof(float), cols, static_cast<int>(parts),
                         device.handles->scratch, to);
}

/// to.of[s][j + e] += the sum over i of what body.add<N>(i, j, sums) adds to sums[s][e], e < N.
template <int N, int Sums, class Body>
void add_column_sums(Gpu& device, Index rows, Index cols, const Body& body, ColumnSums<Sums> to) {
  constexpr Index max_parts = 64, min_rows = 64;
  const Index parts =
      std::max(Index{1}, std::min({max_parts, rows / min_rows, Handles::scratch_size / (Sums * cols)}));
  assert(Sums * cols <= Handles::scratch_size);
  const Index blocks = (cols + 32 * N - 1) / (32 * N) * parts;
  device.stream().launch(column_partials_kernel<N, Sums, Body>, blocks, 32 * column_sum_warps,
                         sizeof(float) * column_sum_warps * Sums * 32 * N, rows, cols,
                         static_cast<int>(parts), body, device.handles->scratch);
  add_parts(device, cols, parts, to);
}

/// Calls body.at<N>(row, column, sums) for every pack, which adds to the thread's sums. Blocks take the packs
/// in turn, one for each thread. partials (Sums, blocks).
template <int N, int Sums, class Body>
__global__ void __launch_bounds__(elementwise_threads)
    summing_kernel(Index rows, Index cols, Body body, float* partials) {
  const Index packs_per_row = cols / N, packs = rows * packs_per_row;
  float sums[Sums] = {};
  for (Index at = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; at < packs;
       at += static_cast<Index>(gridDim.x) * blockDim.x) {
    const Index i = rows == 1 ? 0 : at / packs_per_row;
    body.template at<N>(i, (at - i * packs_per_row) * N, sums);
  }
#pragma unroll
  for (int s = 0; s < Sums; ++s) {
    const float sum = block_sum(sums[s], shared_memory<float>());
    if (threadIdx.x == 0) partials[static_cast<Index>(s) * gridDim.x + blockIdx.x] = sum;
  }
}

/// *to += the sum of `count` numbers. Runs as one block.
template <class T>
__global__ void __launch_bounds__(elementwise_threads) add_sum_kernel(const T* values, Index count, T* to) {
  T sum = 0;
  for (Index i = threadIdx.x; i < count; i += elementwise_threads) sum += values[i];
  sum = block_sum(sum, shared_memory<T>());
  if (threadIdx.x == 0) *to += sum;
}

/// Launches both kernels: *to[s] += everything that body.at<N> adds to sums[s].
template <int N, int Sums, class Body>
void for_each_pack_and_sum(Gpu& device, Index rows, Index cols, const Body& body, float* const (&to)[Sums]) {
  constexpr Index max_blocks = 2048, packs_per_block = 4 * elementwise_threads;
  constexpr std::size_t shared = elementwise_threads / 32 * sizeof(float);
  const Index blocks = std::min(max_blocks, (rows * (cols / N) + packs_per_block - 1) / packs_per_block);
  float* const partials = device.handles->scratch;
  device.stream().launch(summing_kernel<N, Sums, Body>, blocks, elementwise_threads, shared, rows, cols, body,
                         partials);
  for (int s = 0; s < Sums; ++s) {
    device.stream().launch(add_sum_kernel<float>, 1, elementwise_threads, shared, partials + s * blocks,
                           blocks, to[s]);
  }
}

}  // namespace lnfree::cuda
