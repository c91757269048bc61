#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include <lnfree/backend/cuda/async_copy.hpp>
#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/cuda/exponential.hpp>
#include <lnfree/backend/cuda/packs.hpp>
#include <lnfree/backend/cuda/reduce.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cuda {

/// The sum of exp(x), kept as the largest x and the sum of exp(x - max).
template <class S>
struct ExpSum {
  float max = -FLT_MAX, sum = 0;

  template <int N>
  __device__ void add(const Floats<N>& x) {
    float larger = max;
#pragma unroll
    for (int e = 0; e < N; ++e) larger = fmaxf(larger, x[e]);
    sum *= exp_of(max - larger);
    max = larger;
#pragma unroll
    for (int e = 0; e < N; ++e) sum += exp_of(x[e] - max);
  }
  __device__ void add_all_of_warp() {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      const ExpSum other{__shfl_xor_sync(whole_warp, max, distance),
                         __shfl_xor_sync(whole_warp, sum, distance)};
      const float larger = fmaxf(max, other.max);
      sum = sum * exp_of(max - larger) + other.sum * exp_of(other.max - larger);
      max = larger;
    }
  }
  __device__ static float exp_of(float x) { return fast_exp2<S>(x * log2_e); }
};

inline constexpr int max_cross_entropy_threads = 1024;
template <class S>
inline constexpr std::size_t cross_entropy_sums_bytes = max_cross_entropy_threads / 32 * sizeof(ExpSum<S>);

/// One block for each row of logits. It keeps the row's first `kept_cols` numbers in shared memory, so that
/// they are read from global memory once. WithGradient, the logits are replaced by their gradient, times
/// gradient_scale.
template <int N, bool WithGradient, class S>
__global__ void __launch_bounds__(max_cross_entropy_threads)
    cross_entropy_kernel(Matrix<S> logits, const std::int32_t* targets, float* losses, float gradient_scale,
                         Index kept_cols) {
  const Index i = blockIdx.x, first = static_cast<Index>(threadIdx.x) * N;
  const Index step = static_cast<Index>(blockDim.x) * N;
  S* const row = logits.row(i);
  const std::int32_t target = targets[i];
  if (target < 0) {
    if (threadIdx.x == 0) losses[i] = 0;
    if constexpr (WithGradient) {
      for (Index j = first; j < logits.cols; j += step) store<N>(row + j, Floats<N>{});
    }
    return;
  }
  ExpSum<S>* const warps = shared_memory<ExpSum<S>>();
  S* const kept = reinterpret_cast<S*>(warps + max_cross_entropy_threads / 32);
  if constexpr (N == pack_size<S>) {
    for (Index j = first; j < kept_cols; j += step) begin_copy(kept + j, row + j, true);
    wait_for_copies();
  }
  // A thread reads only the packs that it copied itself, so no barrier is needed.
  const auto for_packs = [&](const auto& body) {
    Index j = first;
    for (; j < kept_cols; j += step) body(j, load<N>(kept + j));
    for (; j < logits.cols; j += step) body(j, load<N>(row + j));
  };
  ExpSum<S> sum;
  for_packs([&](Index, const Floats<N>& x) { sum.add(x); });
  sum.add_all_of_warp();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  const float target_logit = static_cast<float>(row[target]);
  __syncthreads();
  sum = threadIdx.x % 32 < blockDim.x / 32 ? warps[threadIdx.x % 32] : ExpSum<S>();
  sum.add_all_of_warp();
  if (threadIdx.x == 0) losses[i] = logf(sum.sum) - (target_logit - sum.max);
  if constexpr (WithGradient) {
    const float scale = gradient_scale / sum.sum;
    for_packs([&](Index j, Floats<N> x) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        x[e] = scale * sum.exp_of(x[e] - sum.max) - (j + e == target ? gradient_scale : 0.0f);
      }
      store<N>(row + j, x);
    });
  }
}

template <bool WithGradient, CudaDevice D>
void launch_cross_entropy(D& device, Matrix<typename D::Scalar> logits, const std::int32_t* targets,
                          float* losses, double gradient_scale) {
  using S = typename D::Scalar;
  with_packs<pack_size<S>>(
      [&](auto n) {
        constexpr Index max_kept = (max_shared_bytes - cross_entropy_sums_bytes<S>) / sizeof(S);
        const Index kept = n() == pack_size<S> ? std::min(logits.cols, max_kept / n() * n()) : 0;
        const Index four_packs_each = (logits.cols + 4 * n() - 1) / (4 * n());
        const auto threads =
            static_cast<int>(std::min(Index{max_cross_entropy_threads}, (four_packs_each + 31) / 32 * 32));
        device.stream().launch(cross_entropy_kernel<n(), WithGradient, S>, logits.rows, threads,
                               cross_entropy_sums_bytes<S> + static_cast<std::size_t>(kept) * sizeof(S),
                               logits, targets, losses, static_cast<float>(gradient_scale), kept);
      },
      logits);
}

template <CudaDevice D>
void cross_entropy_forward(D& device, Matrix<const typename D::Scalar> logits, const std::int32_t* targets,
                           float* losses) {
  // The kernel writes to the logits only for a gradient.
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
