#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/device.hpp>
#include <lnfree/device/cuda/factor_rounding.hpp>
#include <lnfree/device/cuda/packs.hpp>
#include <lnfree/device/cuda/reduce.hpp>
#include <lnfree/norm/call.hpp>

namespace lnfree::cuda {

inline constexpr int norm_warps = 4;  // in a block; one row for each warp

/// N elements of a row, with the statistics and parameters that their norm depends on.
template <int N, class Policy>
struct NormPack {
  NormElement<Policy, float> of[N];

  /// The elements from column j on.
  template <class S>
  __device__ NormPack(const S* row, Index j, RowStatistics<float> statistics,
                      const NormPointers<const S, Policy>& parameters) {
    const Floats<N> x = load<N>(row + j);
#pragma unroll
    for (int e = 0; e < N; ++e) {
      of[e].x = x[e];
      of[e].row = statistics;
    }
    for_norm_parameters<Policy>([&](auto k) {
      if constexpr (is_per_channel<Policy, k()>) {
        const Floats<N> numbers = load<N>(parameters.of[k()] + j);
#pragma unroll
        for (int e = 0; e < N; ++e) of[e].p[k()] = numbers[e];
      } else {
        const float number = static_cast<float>(*parameters.of[k()]);
#pragma unroll
        for (int e = 0; e < N; ++e) of[e].p[k()] = number;
      }
    });
  }
};

template <int N, class Policy, class S, class Rounding>
__global__ void __launch_bounds__(32 * norm_warps)
    norm_forward_kernel(Matrix<const S> x, NormPointers<const S, Policy> parameters, Output<S> y,
                        [[maybe_unused]] NormRow<float>* rows, Rounding rounding) {
  const Index i = static_cast<Index>(blockIdx.x) * norm_warps + threadIdx.x / 32;
  const Index first = threadIdx.x % 32 * N;
  if (i >= x.rows) return;
  const S* const in = x.row(i);
  RowStatistics<float> statistics{};
  if constexpr (RowNorm<Policy>) {
    const float per_column = 1.0f / static_cast<float>(x.cols);
    float sum = 0;
    for (Index j = first; j < x.cols; j += 32 * N) {
      const Floats<N> values = load<N>(in + j);
#pragma unroll
      for (int e = 0; e < N; ++e) sum += values[e];
    }
    const float mean = warp_sum(sum) * per_column;
    float squares = 0;
    for (Index j = first; j < x.cols; j += 32 * N) {
      const Floats<N> values = load<N>(in + j);
#pragma unroll
      for (int e = 0; e < N; ++e) squares += (values[e] - mean) * (values[e] - mean);
    }
    const NormRow<float> row = norm_row<Policy>(mean, warp_sum(squares) * per_column);
    if (threadIdx.x % 32 == 0) rows[i] = row;
    statistics = row.statistics;
  }
  rounding.begin();
  for (Index j = first; j < x.cols; j += 32 * N) {
    const NormPack<N, Policy> pack(in, j, statistics, parameters);
    Floats<N> values{};
    if (y.adds()) values = load<N>(y.addend.row(i) + j);
#pragma unroll
    for (int e = 0; e < N; ++e) values[e] += pack.of[e].value();
    rounding.take(store<N>(y.matrix.row(i) + j, values));
  }
  rounding.template end_row<N>(i);
  rounding.end();
}

inline constexpr int max_backward_warps = 8;  // in a block; each takes one row after another

/// Computes d_x, and each block's part of the parameters' gradients: partials holds those of the vectors,
/// (vectors, blocks, cols), then those of the scalars, (scalars, blocks).
template <int N, class Policy, class S, class Rounding>
__global__ void __launch_bounds__(32 * max_backward_warps)
    norm_backward_kernel(Matrix<const S> x, NormPointers<const S, Policy> parameters,
                         [[maybe_unused]] const NormRow<float>* rows, Matrix<const S> d_y, Output<S> d_x,
                         [[maybe_unused]] float* partials, Rounding rounding) {
  constexpr int vectors = norm_vector_count<Policy>, scalars = norm_scalar_count<Policy>;
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int warps = static_cast<int>(blockDim.x / 32);
  const int cols = static_cast<int>(x.cols), packs = cols / N;
  float* const of_warps = shared_memory<float>();  // (warps, vectors, N, packs); later a number for each warp
  [[maybe_unused]] float* const sums = of_warps + warp * vectors * cols;
  for (int pack = lane; pack < packs; pack += 32) {
#pragma unroll
    for (int n = 0; n < vectors * N; ++n) sums[n * packs + pack] = 0;
  }
  [[maybe_unused]] float of_scalars[scalars > 0 ? scalars : 1] = {};
  rounding.begin();
  for (Index i = static_cast<Index>(blockIdx.x) * warps + warp; i < x.rows;
       i += static_cast<Index>(gridDim.x) * warps) {
    NormRow<float> row{};
    if constexpr (RowNorm<Policy>) row = rows[i];
    RowGradient<float> of_row{};
    if constexpr (RowNorm<Policy>) {
      float d_shift = 0, d_scale = 0;
      for (int pack = lane; pack < packs; pack += 32) {
        const NormPack<N, Policy> elements(x.row(i), pack * N, row.statistics, parameters);
        const Floats<N> d = load<N>(d_y.row(i) + pack * N);
#pragma unroll
        for (int e = 0; e < N; ++e) {
          d_shift += d[e] * elements.of[e].slope_of_shift();
          d_scale += d[e] * elements.of[e].slope_of_scale();
        }
      }
      of_row = row_gradient<Policy>(row.moments, warp_sum(d_shift), warp_sum(d_scale),
                                    1.0f / static_cast<float>(cols));
    }
    for (int pack = lane; pack < packs; pack += 32) {
      const int j = pack * N;
      const NormPack<N, Policy> elements(x.row(i), j, row.statistics, parameters);
      const Floats<N> d = load<N>(d_y.row(i) + j);
      Floats<N> gradient{};
      if (d_x.adds()) gradient = load<N>(d_x.addend.row(i) + j);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        const NormElement<Policy, float>& element = elements.of[e];
        gradient[e] += d[e] * element.slope();
        if constexpr (RowNorm<Policy>)
          gradient[e] += of_row.mean + of_row.variance * (element.x - row.moments.mean);
        for_learned_parameters<Policy>([&](auto k) {
          const float d_parameter = d[e] * element.template slope_of_parameter<k()>();
          if constexpr (is_per_channel<Policy, k()>) {
            sums[(norm_rank<Policy, k()> * N + e) * packs + pack] += d_parameter;
          } else {
            of_scalars[norm_rank<Policy, k()>] += d_parameter;
          }
        });
      }
      rounding.take(store<N>(d_x.matrix.row(i) + j, gradient));
    }
    rounding.template end_row<N>(i);
  }
  rounding.end();
  if constexpr (vectors > 0) {
    __syncthreads();
    for (int at = static_cast<int>(threadIdx.x); at < vectors * cols; at += static_cast<int>(blockDim.x)) {
      float total = 0;
      for (int w = 0; w < warps; ++w) total += of_warps[w * vectors * cols + at];
      const int s = at / cols, e = at % cols / packs, pack = at % packs;
      partials[(static_cast<Index>(s) * gridDim.x + blockIdx.x) * cols + pack * N + e] = total;
    }
  }
  if constexpr (scalars > 0) {
    __syncthreads();
#pragma unroll
    for (int s = 0; s < scalars; ++s) {
      const float total = block_sum(of_scalars[s], of_warps);
      if (threadIdx.x == 0) {
        partials[static_cast<Index>(vectors) * gridDim.x * cols + static_cast<Index>(s) * gridDim.x +
                 blockIdx.x] = total;
      }
    }
  }
}

/// Calls body(n), where n() is the largest pack that all matrices and the norm's vectors allow.
template <class Policy, class S, class Body, class... M>
void with_norm_packs(const NormPointers<const S, Policy>& parameters, Index cols, const Body& body,
                     Matrix<M>... matrices) {
  [&]<int... k>(std::integer_sequence<int, k...>) {
    [[maybe_unused]] const auto vector = [&](auto at) {
      if constexpr (is_per_channel<Policy, at()>) {
        return Matrix<const S>(parameters.of[at()], 1, cols);
      } else {
        return Matrix<const S>();
      }
    };
    with_packs<pack_size<S>>(body, matrices..., vector(std::integral_constant<int, k>())...);
  }(std::make_integer_sequence<int, norm_parameter_count<Policy>>());
}

template <CudaDevice D, Norm Policy>
void norm_forward(D& device, Policy, Matrix<const typename D::Scalar> x,
                  NormPointers<const typename D::Scalar, Policy> parameters, Output<typename D::Scalar> y,
                  NormRow<float>* rows) {
  using S = typename D::Scalar;
  with_norm_packs<Policy, S>(
      parameters, x.cols,
      [&](auto n) {
        auto rounding =
            rounding_of<FactorKind::input, n(), PackOrder::rows>(device, Matrix<const S>(y.matrix));
        device.stream().launch(norm_forward_kernel<n(), Policy, S, decltype(rounding)>,
                               (x.rows + norm_warps - 1) / norm_warps, 32 * norm_warps, 0, x, parameters, y,
                               rows, rounding);
      },
      x, y.matrix, y.addend);
}

template <CudaDevice D, Norm Policy>
void norm_backward(D& device, Policy, Matrix<const typename D::Scalar> x,
                   NormPointers<const typename D::Scalar, Policy> parameters, const NormRow<float>* rows,
                   Matrix<const typename D::Scalar> d_y, Output<typename D::Scalar> d_x,
                   NormPointers<float, Policy> d_parameters) {
  using S = typename D::Scalar;
  constexpr int vectors = norm_vector_count<Policy>, scalars = norm_scalar_count<Policy>;
  constexpr Index max_blocks = 512;
  Index warps = max_backward_warps, blocks = max_blocks;
  if constexpr (vectors > 0) {
    constexpr Index max_cols = max_shared_bytes / (vectors * sizeof(float));
    if (x.cols > max_cols) {
      throw Error("this norm's backward pass on a GPU takes rows of up to " + std::to_string(max_cols) +
                  " numbers, not " + std::to_string(x.cols) + "; take a smaller width");
    }
    warps = std::min(warps, max_cols / x.cols);
    blocks = std::min(blocks, (Handles::scratch_size - scalars * max_blocks) / (vectors * x.cols));
  }
  blocks = std::min(blocks, (x.rows + warps - 1) / warps);
  const auto shared = static_cast<std::size_t>(std::max(warps * vectors * x.cols, scalars > 0 ? warps : 0));
  with_norm_packs<Policy, S>(
      parameters, x.cols,
      [&](auto n) {
        auto rounding =
            rounding_of<FactorKind::gradient, n(), PackOrder::rows>(device, Matrix<const S>(d_x.matrix));
        device.stream().launch(norm_backward_kernel<n(), Policy, S, decltype(rounding)>, blocks,
                               static_cast<int>(32 * warps), shared * sizeof(float), x, parameters, rows, d_y,
                               d_x, device.handles->scratch, rounding);
      },
      x, d_y, d_x.matrix, d_x.addend);
  [[maybe_unused]] ColumnSums<(vectors > 0 ? vectors : 1)> to{};
  for_learned_parameters<Policy>([&](auto k) {
    if constexpr (is_per_channel<Policy, k()>) {
      to.of[norm_rank<Policy, k()>] = d_parameters.of[k()];
    } else {
      const float* const of_blocks =
          device.handles->scratch + vectors * blocks * x.cols + norm_rank<Policy, k()> * blocks;
      device.stream().launch(add_sum_kernel<float>, 1, elementwise_threads,
                             elementwise_threads / 32 * sizeof(float), of_blocks, blocks,
                             d_parameters.of[k()]);
    }
  });
  if constexpr (vectors > 0) add_parts(device, x.cols, blocks, to);
}

}  // namespace lnfree::cuda
