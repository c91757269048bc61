#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/cuda/elementwise.hpp>
#include <lnfree/backend/cuda/reduce.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cuda {

/// sum exp(x) as sum exp(x - max): numbers join one by one, sums two by two.
struct ExpSum {
  float max = -FLT_MAX, sum = 0;

  __device__ void add(float x) {
    if (x > max) {
      sum = sum * expf(max - x) + 1.0f;
      max = x;
    } else {
      sum += expf(x - max);
    }
  }
  __device__ void add(ExpSum other) {
    const float larger = other.max > max ? other.max : max;
    sum = sum * expf(max - larger) + other.sum * expf(other.max - larger);
    max = larger;
  }
};

inline constexpr int cross_entropy_threads = 256;

/// A block for each row of logits. With gradient_scale they become their gradient.
template <int N, bool WithGradient, class S>
__global__ void __launch_bounds__(cross_entropy_threads)
    cross_entropy_kernel(Matrix<S> logits, const std::int32_t* targets, float* losses, float gradient_scale) {
  const Index i = blockIdx.x, first = static_cast<Index>(threadIdx.x) * N;
  constexpr Index step = cross_entropy_threads * N;
  S* const row = logits.row(i);
  const std::int32_t target = targets[i];
  if (target < 0) {
    if (threadIdx.x == 0) losses[i] = 0;
    if constexpr (WithGradient) {
      for (Index j = first; j < logits.cols; j += step) store<N>(row + j, Floats<N>{});
    }
    return;
  }
  ExpSum mine;
  for (Index j = first; j < logits.cols; j += step) {
    const Floats<N> x = load<N>(row + j);
#pragma unroll
    for (int e = 0; e < N; ++e) mine.add(x[e]);
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    mine.add(ExpSum{__shfl_xor_sync(whole_warp, mine.max, distance),
                    __shfl_xor_sync(whole_warp, mine.sum, distance)});
  }
  ExpSum* const warps = shared_memory<ExpSum>();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = mine;
  const float target_logit = static_cast<float>(row[target]);
  __syncthreads();
  ExpSum all;
  for (int w = 0; w < cross_entropy_threads / 32; ++w) all.add(warps[w]);
  if (threadIdx.x == 0) losses[i] = logf(all.sum) - (target_logit - all.max);
  if constexpr (WithGradient) {
    const float scale = gradient_scale / all.sum;
    for (Index j = first; j < logits.cols; j += step) {
      Floats<N> x = load<N>(row + j);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        x[e] = scale * expf(x[e] - all.max) - (j + e == target ? gradient_scale : 0.0f);
      }
      store<N>(row + j, x);
    }
  }
}

template <bool WithGradient, CudaDevice D>
void launch_cross_entropy(D& device, Matrix<typename D::Scalar> logits, const std::int32_t* targets,
                          float* losses, double gradient_scale) {
  using S = typename D::Scalar;
  with_packs<pack_size<S>>(
      [&](auto n) {
        device.stream().launch(cross_entropy_kernel<n(), WithGradient, S>, logits.rows, cross_entropy_threads,
                               cross_entropy_threads / 32 * sizeof(ExpSum), logits, targets, losses,
                               static_cast<float>(gradient_scale));
      },
      logits);
}

template <CudaDevice D>
void cross_entropy_forward(D& device, Matrix<const typename D::Scalar> logits, const std::int32_t* targets,
                           float* losses) {
  // Not written to without a gradient.
  const Matrix<typename D::Scalar> view(const_cast<typename D::Scalar*>(logits.data), logits.rows,
                                        logits.cols, logits.stride);
  launch_cross_entropy<false>(device, view, targets, losses, 0);
}

template <CudaDevice D>
void cross_entropy_forward_backward(D& device, Matrix<typename D::Scalar> logits, const std::int32_t* targets,
                                    float* losses, double gradient_scale) {
  launch_cross_entropy<true>(device, logits, targets, losses, gradient_scale);
}

}  // namespace lnfree::cuda
