#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/cuda/packs.hpp>
#include <lnfree/backend/cuda/reduce.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cuda {

/// One thread for each pack of N elements.
template <int N, class F, class... T>
__global__ void __launch_bounds__(elementwise_threads) for_each_element_kernel(Index count, F f, T*... at) {
  const Index i = (static_cast<Index>(blockIdx.x) * elementwise_threads + threadIdx.x) * N;
  if (i >= count) return;
  const auto on_copies = [&](auto... x) {
#pragma unroll
    for (int e = 0; e < N; ++e) f(x[e]...);
    const auto put_back = []<class U>(U* to, const Floats<N>& values) {
      if constexpr (!std::is_const_v<U>) store<N>(to, values);
    };
    (put_back(at + i, x), ...);
  };
  on_copies(load<N>(at + i)...);
}

template <CudaDevice D, class F, class... T>
void for_each_element(D& device, Index count, const F& f, T*... at) {
  constexpr Index threads = elementwise_threads;
  with_packs<4>(
      [&](auto n) {
        device.stream().launch(for_each_element_kernel<n(), F, T...>, (count / n() + threads - 1) / threads,
                               elementwise_threads, 0, count, f, at...);
      },
      Matrix<T>(at, 1, count)...);
}

inline constexpr int sum_blocks = 512;

/// Each block writes one partial sum; partials (sum_blocks).
template <class F, class... T>
__global__ void __launch_bounds__(elementwise_threads)
    sum_of_kernel(Index count, F f, double* partials, T*... at) {
  double sum = 0;
  for (Index i = static_cast<Index>(blockIdx.x) * elementwise_threads + threadIdx.x; i < count;
       i += static_cast<Index>(sum_blocks) * elementwise_threads) {
    sum += [&](auto... x) { return static_cast<double>(f(x...)); }(static_cast<float>(at[i])...);
  }
  sum = block_sum(sum, shared_memory<double>());
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

/// Waits for the GPU to finish.
template <CudaDevice D, class F, class... T>
double sum_of(D& device, Index count, const F& f, T*... at) {
  auto* const partials = reinterpret_cast<double*>(device.handles->scratch);
  device.stream().launch(sum_of_kernel<F, T...>, sum_blocks, elementwise_threads,
                         elementwise_threads / 32 * sizeof(double), count, f, partials, at...);
  std::array<double, sum_blocks> host;
  device.stream().copy_to_host(host.data(), partials, sizeof(host));
  double total = 0;
  for (const double sum : host) total += sum;
  return total;
}

}  // namespace lnfree::cuda
