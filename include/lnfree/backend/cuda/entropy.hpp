#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/cuda/reduce.hpp>
#include <lnfree/backend/primitives.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cuda {

inline constexpr int entropy_warps = 8;  // in a block; one row for each warp

template <class A>
__global__ void __launch_bounds__(32 * entropy_warps)
    entropy_sums_kernel(Matrix<const A> rows, A* sums, std::int32_t* finite_rows) {
  const Index r = static_cast<Index>(blockIdx.x) * entropy_warps + threadIdx.x / 32;
  if (r >= rows.rows) return;
  double sum = 0;
  int finite = 0;
  for (Index i = threadIdx.x % 32; i < rows.cols; i += 32) {
    const A entropy = rows.row(r)[i];
    if (!(fabsf(entropy) <= FLT_MAX)) continue;
    sum += static_cast<double>(entropy);
    ++finite;
  }
  sum = warp_sum(sum);
  finite = warp_sum(finite);
  if (threadIdx.x % 32 != 0) return;
  sums[r] = static_cast<A>(sum);
  finite_rows[r] = finite;
}

inline void entropy_sums(Gpu& device, Matrix<const float> rows, float* sums, std::int32_t* finite_rows) {
  device.stream().launch(entropy_sums_kernel<float>, (rows.rows + entropy_warps - 1) / entropy_warps,
                         32 * entropy_warps, 0, rows, sums, finite_rows);
}

inline constexpr int penalty_threads = 256;

/// One block for each head. The block's warps take the head's rows in turn.
template <class S>
__global__ void __launch_bounds__(penalty_threads)
    entropy_penalty_kernel(float max_entropy, float margin, float twice_scale, Matrix<const float> rows,
                           const S* thresholds, float* sums, Matrix<float> d_rows, float* d_thresholds) {
  const Index head = blockIdx.x, heads = gridDim.x, warp = threadIdx.x / 32;
  const float threshold = static_cast<float>(thresholds[head]) * max_entropy;
  double total = 0;
  for (Index r = head + warp * heads; r < rows.rows; r += penalty_threads / 32 * heads) {
    float sum = 0;
    for (Index i = threadIdx.x % 32; i < rows.cols; i += 32) {
      const float deviation = rows.row(r)[i] - threshold;
      const bool counts = fabsf(deviation) > margin && fabsf(deviation) <= FLT_MAX;
      const float d_deviation = counts ? twice_scale * deviation : 0.0f;
      sum += counts ? deviation * deviation : 0.0f;
      total += static_cast<double>(d_deviation);
      d_rows.row(r)[i] = d_deviation;
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) sums[r] = sum;
  }
  total = block_sum(total, shared_memory<double>());
  if (threadIdx.x == 0) d_thresholds[head] -= static_cast<float>(total) * max_entropy;
}

template <CudaDevice D>
void entropy_penalty(D& device, const EntropyPenalty& penalty, int heads, Matrix<const float> rows,
                     const typename D::Scalar* thresholds, float* sums, Matrix<float> d_rows,
                     float* d_thresholds) {
  device.stream().launch(entropy_penalty_kernel<typename D::Scalar>, heads, penalty_threads,
                         penalty_threads / 32 * sizeof(double), static_cast<float>(penalty.max_entropy),
                         static_cast<float>(penalty.margin), static_cast<float>(2 * penalty.scale), rows,
                         thresholds, sums, d_rows, d_thresholds);
}

}  // namespace lnfree::cuda
