#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/cuda/elementwise.hpp>
#include <lnfree/backend/cuda/reduce.hpp>
#include <lnfree/core/concepts.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cuda {

inline constexpr int norm_warps = 4;  // of a block; each takes a row

/// What a policy has of them.
template <class Policy, int N, class S>
__device__ void apply_gain_and_bias(Floats<N>& values, [[maybe_unused]] const S* gain,
                                    [[maybe_unused]] const S* bias, [[maybe_unused]] Index j) {
  if constexpr (Policy::has_gain) {
    const Floats<N> factor = load<N>(gain + j);
#pragma unroll
    for (int e = 0; e < N; ++e) values[e] *= factor[e];
  }
  if constexpr (Policy::has_bias) {
    const Floats<N> shift = load<N>(bias + j);
#pragma unroll
    for (int e = 0; e < N; ++e) values[e] += shift[e];
  }
}

template <int N, class Policy, class S>
__global__ void __launch_bounds__(32 * norm_warps)
    norm_forward_kernel(Matrix<const S> x, const S* gain, const S* bias, Matrix<S> y,
                        RowStatistics<float>* rows) {
  const Index i = static_cast<Index>(blockIdx.x) * norm_warps + threadIdx.x / 32;
  const Index first = threadIdx.x % 32 * N;
  if (i >= x.rows) return;
  const S* const in = x.row(i);
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
  const RowStatistics<float> row = Policy::statistics(mean, warp_sum(squares) * per_column);
  if (threadIdx.x % 32 == 0) rows[i] = row;
  for (Index j = first; j < x.cols; j += 32 * N) {
    Floats<N> values = load<N>(in + j);
#pragma unroll
    for (int e = 0; e < N; ++e) values[e] = Policy::value(values[e], row);
    apply_gain_and_bias<Policy>(values, gain, bias, j);
    store<N>(y.row(i) + j, values);
  }
}

/// A normalized row, its gradient before gain and bias, and after.
template <int N, class Policy>
struct Normalized {
  Floats<N> y, d_y, d_out;

  template <class S>
  __device__ Normalized(const S* x, const S* gain, RowStatistics<float> row, const S* d_result)
      : y(load<N>(x)), d_y(load<N>(d_result)), d_out(d_y) {
#pragma unroll
    for (int e = 0; e < N; ++e) y[e] = Policy::value(y[e], row);
    if constexpr (Policy::has_gain) {
      const Floats<N> factor = load<N>(gain);
#pragma unroll
      for (int e = 0; e < N; ++e) d_y[e] *= factor[e];
    }
  }
};

/// The numbers for each column that norm_backward_kernel sums over the rows.
template <class Policy>
inline constexpr int norm_sums = Policy::has_gain + Policy::has_bias;

inline constexpr int most_backward_warps = 8;  // of a block; each takes a row, and another one after it

/// d_x; and of the gradients of gain and bias each block's part: partials (count, blocks, cols).
template <int N, class Policy, class S>
__global__ void __launch_bounds__(32 * most_backward_warps)
    norm_backward_kernel(Matrix<const S> x, const S* gain, const RowStatistics<float>* rows,
                         Matrix<const S> d_y, Output<S> d_x, [[maybe_unused]] float* partials) {
  constexpr int count = norm_sums<Policy>;
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int warps = static_cast<int>(blockDim.x / 32);
  const int cols = static_cast<int>(x.cols), packs = cols / N;
  const float per_column = 1.0f / static_cast<float>(cols);
  float* const of_warps = shared_memory<float>();  // (warps, count, N, packs)
  [[maybe_unused]] float* const sums = of_warps + warp * count * cols;
  for (int pack = lane; pack < packs; pack += 32) {
#pragma unroll
    for (int n = 0; n < count * N; ++n) sums[n * packs + pack] = 0;
  }
  for (Index i = static_cast<Index>(blockIdx.x) * warps + warp; i < x.rows;
       i += static_cast<Index>(gridDim.x) * warps) {
    const RowStatistics<float> row = rows[i];
    const auto at = [&](int j) {
      return Normalized<N, Policy>(x.row(i) + j, Policy::has_gain ? gain + j : nullptr, row, d_y.row(i) + j);
    };
    float sum = 0, product_sum = 0;
    for (int pack = lane; pack < packs; pack += 32) {
      const Normalized<N, Policy> normalized = at(pack * N);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        sum += normalized.d_y[e];
        product_sum += normalized.d_y[e] * normalized.y[e];
      }
    }
    const float mean = warp_sum(sum) * per_column, product_mean = warp_sum(product_sum) * per_column;
    for (int pack = lane; pack < packs; pack += 32) {
      const int j = pack * N;
      const Normalized<N, Policy> normalized = at(j);
      Floats<N> gradient{};
      if (d_x.adds()) gradient = load<N>(d_x.addend.row(i) + j);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        gradient[e] += Policy::gradient(normalized.d_y[e], normalized.y[e], row, mean, product_mean);
        if constexpr (Policy::has_gain) sums[e * packs + pack] += normalized.d_out[e] * normalized.y[e];
        if constexpr (Policy::has_bias) sums[((count - 1) * N + e) * packs + pack] += normalized.d_out[e];
      }
      store<N>(d_x.matrix.row(i) + j, gradient);
    }
  }
  if constexpr (count == 0) return;
  __syncthreads();
  for (int at = static_cast<int>(threadIdx.x); at < count * cols; at += static_cast<int>(blockDim.x)) {
    float total = 0;
    for (int w = 0; w < warps; ++w) total += of_warps[w * count * cols + at];
    const int s = at / cols, e = at % cols / packs, pack = at % packs;
    partials[(static_cast<Index>(s) * gridDim.x + blockIdx.x) * cols + pack * N + e] = total;
  }
}

/// Those of the two that the policy has.
template <class Policy>
ColumnSums<norm_sums<Policy>> sums_of([[maybe_unused]] float* d_gain, [[maybe_unused]] float* d_bias) {
  if constexpr (norm_sums<Policy> == 2) {
    return {d_gain, d_bias};
  } else {
    return {Policy::has_gain ? d_gain : d_bias};
  }
}

template <CudaDevice D, RowNorm Policy>
void norm_forward(D& device, Policy, Matrix<const typename D::Scalar> x, const typename D::Scalar* gain,
                  const typename D::Scalar* bias, Matrix<typename D::Scalar> y, RowStatistics<float>* rows) {
  using S = typename D::Scalar;
  with_packs<pack_size<S>>(
      [&](auto n) {
        device.stream().launch(norm_forward_kernel<n(), Policy, S>, (x.rows + norm_warps - 1) / norm_warps,
                               32 * norm_warps, 0, x, gain, bias, y, rows);
      },
      x, y, Matrix(gain, 1, x.cols), Matrix(bias, 1, x.cols));
}

template <CudaDevice D, RowNorm Policy>
void norm_backward(D& device, Policy, Matrix<const typename D::Scalar> x, const typename D::Scalar* gain,
                   const RowStatistics<float>* rows, Matrix<const typename D::Scalar> d_y,
                   Output<typename D::Scalar> d_x, [[maybe_unused]] float* d_gain,
                   [[maybe_unused]] float* d_bias) {
  using S = typename D::Scalar;
  constexpr int sums = norm_sums<Policy>;
  constexpr Index most_blocks = 512;
  Index warps = most_backward_warps, blocks = most_blocks;
  if constexpr (sums > 0) {
    constexpr Index most_cols = most_shared_bytes / (sums * sizeof(float));
    if (x.cols > most_cols) {
      throw Error("this norm's backward pass on a GPU takes rows of up to " + std::to_string(most_cols) +
                  " numbers, not " + std::to_string(x.cols) + "; take a smaller width");
    }
    warps = std::min(warps, most_cols / x.cols);
    blocks = std::min(blocks, Handles::scratch_size / (sums * x.cols));
  }
  blocks = std::min(blocks, (x.rows + warps - 1) / warps);
  with_packs<pack_size<S>>(
      [&](auto n) {
        device.stream().launch(norm_backward_kernel<n(), Policy, S>, blocks, static_cast<int>(32 * warps),
                               static_cast<std::size_t>(warps * sums * x.cols) * sizeof(float), x, gain, rows,
                               d_y, d_x, device.handles->scratch);
      },
      x, d_y, d_x.matrix, d_x.addend, Matrix(gain, 1, x.cols));
  if constexpr (sums > 0) add_parts(device, x.cols, blocks, sums_of<Policy>(d_gain, d_bias));
}

/// alpha x + shift, which a norm without statistics takes in.
template <class Policy, class S>
__device__ float pointwise_input(float x, NormParameters<const S> parameters) {
  const float u = static_cast<float>(*parameters.alpha) * x;
  if constexpr (Policy::has_shift) {
    return u + static_cast<float>(*parameters.shift);
  } else {
    return u;
  }
}

template <class Policy, class S>
struct PointwiseForward {
  Matrix<const S> x;
  NormParameters<const S> parameters;
  Matrix<S> y;

  template <int N>
  __device__ void at(Index i, Index j) const {
    Floats<N> values = load<N>(x.row(i) + j);
#pragma unroll
    for (int e = 0; e < N; ++e) values[e] = Policy::value(pointwise_input<Policy>(values[e], parameters));
    apply_gain_and_bias<Policy>(values, parameters.gain, parameters.bias, j);
    store<N>(y.row(i) + j, values);
  }
};

/// d_x, and the gradients of alpha and shift.
template <class Policy, class S>
struct PointwiseBackward {
  Matrix<const S> x;
  NormParameters<const S> parameters;
  Matrix<const S> d_y;
  Output<S> d_x;

  template <int N, int Sums>
  __device__ void at(Index i, Index j, float (&sums)[Sums]) const {
    const float alpha = static_cast<float>(*parameters.alpha);
    const Floats<N> in = load<N>(x.row(i) + j);
    Floats<N> d = load<N>(d_y.row(i) + j), before{};
    if constexpr (Policy::has_gain) {
      const Floats<N> factor = load<N>(parameters.gain + j);
#pragma unroll
      for (int e = 0; e < N; ++e) d[e] *= factor[e];
    }
    if (d_x.adds()) before = load<N>(d_x.addend.row(i) + j);
#pragma unroll
    for (int e = 0; e < N; ++e) {
      d[e] *= Policy::derivative(pointwise_input<Policy>(in[e], parameters));
      sums[0] += d[e] * in[e];
      if constexpr (Policy::has_shift) sums[1] += d[e];
      d[e] = before[e] + d[e] * alpha;
    }
    store<N>(d_x.matrix.row(i) + j, d);
  }
};

/// The gradients of gain and bias.
template <class Policy, class S>
struct PointwiseGainAndBias {
  Matrix<const S> x;
  NormParameters<const S> parameters;
  Matrix<const S> d_y;

  template <int N, int Sums>
  __device__ void add(Index i, Index j, Floats<N> (&sums)[Sums]) const {
    const Floats<N> d = load<N>(d_y.row(i) + j);
    if constexpr (Policy::has_gain) {
      const Floats<N> in = load<N>(x.row(i) + j);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        sums[0][e] += d[e] * Policy::value(pointwise_input<Policy>(in[e], parameters));
      }
    }
    if constexpr (Policy::has_bias) {
#pragma unroll
      for (int e = 0; e < N; ++e) sums[Sums - 1][e] += d[e];
    }
  }
};

template <CudaDevice D, PointwiseNorm Policy>
void norm_forward(D& device, Policy, Matrix<const typename D::Scalar> x,
                  NormParameters<const typename D::Scalar> parameters, Matrix<typename D::Scalar> y) {
  using S = typename D::Scalar;
  with_packs<pack_size<S>>(
      [&](auto n) {
        for_each_pack<n()>(device.stream(), x.rows, x.cols, PointwiseForward<Policy, S>{x, parameters, y});
      },
      x, y, Matrix(parameters.gain, 1, x.cols), Matrix(parameters.bias, 1, x.cols));
}

template <CudaDevice D, PointwiseNorm Policy>
void norm_backward(D& device, Policy, Matrix<const typename D::Scalar> x,
                   NormParameters<const typename D::Scalar> parameters, Matrix<const typename D::Scalar> d_y,
                   Output<typename D::Scalar> d_x, NormParameters<float> d) {
  using S = typename D::Scalar;
  with_packs<pack_size<S>>(
      [&](auto n) {
        const PointwiseBackward<Policy, S> body{x, parameters, d_y, d_x};
        if constexpr (Policy::has_shift) {
          for_each_pack_and_sum<n(), 2>(device, x.rows, x.cols, body, {d.alpha, d.shift});
        } else {
          for_each_pack_and_sum<n(), 1>(device, x.rows, x.cols, body, {d.alpha});
        }
      },
      x, d_y, d_x.matrix, d_x.addend, Matrix(parameters.gain, 1, x.cols));
  if constexpr (constexpr int sums = norm_sums<Policy>; sums > 0) {
    with_packs<4>(
        [&](auto n) {
          add_column_sums<n()>(device, x.rows, x.cols, PointwiseGainAndBias<Policy, S>{x, parameters, d_y},
                               sums_of<Policy>(d.gain, d.bias));
        },
        x, d_y);
  }
}

}  // namespace lnfree::cuda
