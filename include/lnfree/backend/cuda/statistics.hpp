#pragma once

#include <array>

#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/cuda/packs.hpp>
#include <lnfree/backend/cuda/reduce.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cuda {

template <class S>
struct Squares {
  Matrix<const S> x;

  template <int N>
  __device__ void add(Index i, Index j, Floats<N> (&sums)[1]) const {
    const Floats<N> values = load<N>(x.row(i) + j);
#pragma unroll
    for (int e = 0; e < N; ++e) sums[0][e] += values[e] * values[e];
  }
};

template <CudaDevice D>
void column_squares(D& device, Matrix<const typename D::Scalar> x, float* sums) {
  device.stream().fill_zero(sums, static_cast<std::size_t>(x.cols) * sizeof(float));
  with_packs<4>(
      [&](auto n) {
        add_column_sums<n()>(device, x.rows, x.cols, Squares<typename D::Scalar>{x}, ColumnSums<1>{sums});
      },
      x);
}

inline constexpr int zero_blocks = 512;

/// Blocks take the rows in turn. Each writes one count; counts (zero_blocks).
template <class S>
__global__ void __launch_bounds__(elementwise_threads) count_zeros_kernel(Matrix<const S> x, Index* counts) {
  Index count = 0;
  for (Index i = blockIdx.x; i < x.rows; i += zero_blocks) {
    for (Index j = threadIdx.x; j < x.cols; j += elementwise_threads) {
      count += static_cast<float>(x.row(i)[j]) == 0.0f;
    }
  }
  count = block_sum(count, shared_memory<Index>());
  if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

/// Waits for the GPU to finish.
template <CudaDevice D>
Index count_zeros(D& device, Matrix<const typename D::Scalar> x) {
  auto* const counts = reinterpret_cast<Index*>(device.handles->scratch);
  device.stream().launch(count_zeros_kernel<typename D::Scalar>, zero_blocks, elementwise_threads,
                         elementwise_threads / 32 * sizeof(Index), x, counts);
  std::array<Index, zero_blocks> host;
  device.stream().copy_to_host(host.data(), counts, sizeof(host));
  Index total = 0;
  for (const Index count : host) total += count;
  return total;
}

}  // namespace lnfree::cuda
