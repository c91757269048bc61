#pragma once

#include <array>
#include <cmath>
#include <type_traits>

#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/cuda/elementwise.hpp>
#include <lnfree/backend/cuda/reduce.hpp>
#include <lnfree/core/adamw_step.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cuda {

inline constexpr int square_blocks = 512;

template <class A>
__global__ void __launch_bounds__(elementwise_threads)
    sum_of_squares_kernel(const A* values, Index count, double* partials) {
  double sum = 0;
  for (Index i = static_cast<Index>(blockIdx.x) * elementwise_threads + threadIdx.x; i < count;
       i += static_cast<Index>(square_blocks) * elementwise_threads) {
    sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  }
  sum = block_sum(sum, shared_memory<double>());
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

/// Waits for the GPU.
inline double sum_of_squares(Gpu& device, const float* values, Index count) {
  auto* const partials = reinterpret_cast<double*>(device.handles->scratch);
  device.stream().launch(sum_of_squares_kernel<float>, square_blocks, elementwise_threads,
                         elementwise_threads / 32 * sizeof(double), values, count, partials);
  std::array<double, square_blocks> host;
  device.stream().copy_to_host(host.data(), partials, sizeof(host));
  double total = 0;
  for (const double sum : host) total += sum;
  return total;
}

template <class S>
struct AdamWUpdate {
  float *master, *gradient, *m, *v;
  S* value;
  float beta1, beta2, rest1, rest2, decay, rate, per_correction2, epsilon, scale;

  template <int N>
  __device__ void at(Index, Index j) const {
    Floats<N> weights = load<N>(master + j), first = load<N>(m + j), second = load<N>(v + j);
    const Floats<N> gradients = load<N>(gradient + j);
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const float g = gradients[e] * scale;
      first[e] = beta1 * first[e] + rest1 * g;
      second[e] = beta2 * second[e] + rest2 * g * g;
      weights[e] = decay * weights[e] - rate * first[e] / (sqrtf(second[e] * per_correction2) + epsilon);
    }
    store<N>(m + j, first);
    store<N>(v + j, second);
    store<N>(master + j, weights);
    // In float both are the same memory.
    if constexpr (!std::is_same_v<S, float>) store<N>(value + j, weights);
    store<N>(gradient + j, Floats<N>{});
  }
};

template <CudaDevice D>
void adamw(D& device, Index count, float* master, typename D::Scalar* value, float* gradient, float* m,
           float* v, const AdamWStep& step) {
  using S = typename D::Scalar;
  const AdamWUpdate<S> update{.master = master,
                              .gradient = gradient,
                              .m = m,
                              .v = v,
                              .value = value,
                              .beta1 = static_cast<float>(step.beta1),
                              .beta2 = static_cast<float>(step.beta2),
                              .rest1 = static_cast<float>(1 - step.beta1),
                              .rest2 = static_cast<float>(1 - step.beta2),
                              .decay = static_cast<float>(1 - step.learning_rate * step.weight_decay),
                              .rate = static_cast<float>(step.learning_rate / step.correction1),
                              .per_correction2 = static_cast<float>(1 / step.correction2),
                              .epsilon = static_cast<float>(step.epsilon),
                              .scale = static_cast<float>(step.gradient_scale)};
  with_packs<4>([&](auto n) { for_each_pack<n()>(device.stream(), 1, count, update); },
                Matrix(master, 1, count), Matrix(value, 1, count), Matrix(gradient, 1, count),
                Matrix(m, 1, count), Matrix(v, 1, count));
}

}  // namespace lnfree::cuda
