#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include <lnfree/backend/cpu/device.hpp>
#include <lnfree/backend/cpu/row_sums.hpp>
#include <lnfree/core/concepts.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cpu {

/// Rows whose statistics are made together, step by step: while one row's sum is waited for, others go on.
inline constexpr Index rows_together = 8;

template <CpuDevice D, RowNorm N>
void norm_forward(D&, N, Matrix<const typename D::Scalar> x, const typename D::Scalar* gain,
                  const typename D::Scalar* bias, Matrix<typename D::Scalar> y, RowStatistics<float>* rows) {
  using S = typename D::Scalar;
  parallel_for(x.rows, row_grain(x.cols), [&](Index begin, Index end) {
    const float per_column = 1.0f / static_cast<float>(x.cols);
    for (Index first = begin; first < end; first += rows_together) {
      const int count = static_cast<int>(std::min(rows_together, end - first));
      float mean[rows_together], variance[rows_together];
      for (int r = 0; r < count; ++r) {
        const S* in = x.row(first + r);
        const auto [sum] = row_sums(x.cols, [in](Index j) { return std::array{static_cast<float>(in[j])}; });
        mean[r] = sum * per_column;
      }
      for (int r = 0; r < count; ++r) {
        const auto [squares] = row_sums(x.cols, [in = x.row(first + r), centre = mean[r]](Index j) {
          const float deviation = in[j] - centre;
          return std::array{deviation * deviation};
        });
        variance[r] = squares * per_column;
      }
      for (int r = 0; r < count; ++r) rows[first + r] = N::statistics(mean[r], variance[r]);
      for (int r = 0; r < count; ++r) {
        const S* in = x.row(first + r);
        S* out = y.row(first + r);
        const RowStatistics<float> row = rows[first + r];
#pragma omp simd
        for (Index j = 0; j < x.cols; ++j) {
          float value = N::value(static_cast<float>(in[j]), row);
          if constexpr (N::has_gain) value *= gain[j];
          if constexpr (N::has_bias) value += bias[j];
          out[j] = value;
        }
      }
    }
  });
}

/// d_gain_j += sum_i d_y_ij n_i(x_ij) and d_bias_j += sum_i d_y_ij, where the policy has them; normalized(i)
/// is n_i. Threads share the columns, so that each sum runs over the rows in order.
template <class N, class S, class Normalized>
void gain_and_bias_backward(Matrix<const S> x, Matrix<const S> d_y, float* d_gain, float* d_bias,
                            const Normalized& normalized) {
  if constexpr (N::has_gain || N::has_bias) {
    parallel_for(
        x.cols, std::max(Index{16}, row_grain(x.rows)),
        [&](Index begin, Index end) {
          for (Index i = 0; i < x.rows; ++i) {
            const S *in = x.row(i), *d_out = d_y.row(i);
            [[maybe_unused]] const auto of_row = normalized(i);
#pragma omp simd
            for (Index j = begin; j < end; ++j) {
              if constexpr (N::has_gain) d_gain[j] += d_out[j] * of_row(static_cast<float>(in[j]));
              if constexpr (N::has_bias) d_bias[j] += d_out[j];
            }
          }
        },
        16);
  }
}

template <CpuDevice D, RowNorm N>
void norm_backward(D&, N, Matrix<const typename D::Scalar> x, const typename D::Scalar* gain,
                   const RowStatistics<float>* rows, Matrix<const typename D::Scalar> d_y,
                   Output<typename D::Scalar> d_x, [[maybe_unused]] float* d_gain,
                   [[maybe_unused]] float* d_bias) {
  using S = typename D::Scalar;
  const auto d_normalized = [=](float d, Index j) {
    if constexpr (N::has_gain) {
      return d * gain[j];
    } else {
      return d;
    }
  };
  parallel_for(x.rows, row_grain(x.cols), [&](Index begin, Index end) {
    const float per_column = 1.0f / static_cast<float>(x.cols);
    for (Index i = begin; i < end; ++i) {
      const S *in = x.row(i), *d_out = d_y.row(i);
      S* to = d_x.matrix.row(i);
      const RowStatistics<float> row = rows[i];
      const auto [sum, product_sum] = row_sums(x.cols, [=](Index j) {
        const float d = d_normalized(d_out[j], j);
        return std::array{d, d * N::value(static_cast<float>(in[j]), row)};
      });
      const float mean = sum * per_column, product_mean = product_sum * per_column;
      const S* const addend = d_x.adds() ? d_x.addend.row(i) : to;
      const float kept = d_x.adds() ? 1.0f : 0.0f;
#pragma omp simd
      for (Index j = 0; j < x.cols; ++j) {
        const float gradient = N::gradient(d_normalized(d_out[j], j),
                                           N::value(static_cast<float>(in[j]), row), row, mean, product_mean);
        to[j] = (kept != 0.0f ? static_cast<float>(addend[j]) : 0.0f) + gradient;
      }
    }
  });
  gain_and_bias_backward<N>(x, d_y, d_gain, d_bias, [=](Index i) {
    return [row = rows[i]](float value) { return N::value(value, row); };
  });
}

template <CpuDevice D, PointwiseNorm N>
void norm_forward(D&, N, Matrix<const typename D::Scalar> x, NormParameters<const typename D::Scalar> p,
                  Matrix<typename D::Scalar> y) {
  using S = typename D::Scalar;
  const float alpha = *p.alpha, shift = N::has_shift ? static_cast<float>(*p.shift) : 0.0f;
  parallel_for(x.rows, row_grain(x.cols), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const S* in = x.row(i);
      S* out = y.row(i);
#pragma omp simd
      for (Index j = 0; j < x.cols; ++j) {
        float value = N::value(alpha * static_cast<float>(in[j]) + shift);
        if constexpr (N::has_gain) value *= p.gain[j];
        if constexpr (N::has_bias) value += p.bias[j];
        out[j] = value;
      }
    }
  });
}

template <CpuDevice D, PointwiseNorm N>
void norm_backward(D&, N, Matrix<const typename D::Scalar> x, NormParameters<const typename D::Scalar> p,
                   Matrix<const typename D::Scalar> d_y, Output<typename D::Scalar> d_x,
                   NormParameters<float> d) {
  using S = typename D::Scalar;
  const float alpha = *p.alpha, shift = N::has_shift ? static_cast<float>(*p.shift) : 0.0f;
  const float kept = d_x.adds() ? 1.0f : 0.0f;
  // A fixed number of partial sums, so that the result does not depend on the thread count.
  struct Sums {
    double alpha = 0, shift = 0;
  };
  std::array<Sums, 64> partial{};
  const Index parts = static_cast<Index>(partial.size());
  parallel_for(parts, 1, [&](Index begin, Index end) {
    for (Index part = begin; part < end; ++part) {
      Sums& sums = partial[static_cast<std::size_t>(part)];
      for (Index i = x.rows * part / parts; i < x.rows * (part + 1) / parts; ++i) {
        const S *in = x.row(i), *d_out = d_y.row(i);
        S* to = d_x.matrix.row(i);
        const S* const addend = d_x.adds() ? d_x.addend.row(i) : to;
        float d_alpha = 0, d_shift = 0;
#pragma omp simd reduction(+ : d_alpha, d_shift)
        for (Index j = 0; j < x.cols; ++j) {
          float d_u = d_out[j];
          if constexpr (N::has_gain) d_u *= p.gain[j];
          d_u *= N::derivative(alpha * static_cast<float>(in[j]) + shift);
          d_alpha += d_u * in[j];
          d_shift += d_u;
          to[j] = (kept != 0.0f ? static_cast<float>(addend[j]) : 0.0f) + d_u * alpha;
        }
        sums.alpha += static_cast<double>(d_alpha);
        sums.shift += static_cast<double>(d_shift);
      }
    }
  });
  Sums total;
  for (const Sums& sums : partial) {
    total.alpha += sums.alpha;
    total.shift += sums.shift;
  }
  *d.alpha += static_cast<float>(total.alpha);
  if constexpr (N::has_shift) *d.shift += static_cast<float>(total.shift);
  gain_and_bias_backward<N>(x, d_y, d.gain, d.bias, [=](Index) {
    return [=](float value) { return N::value(alpha * value + shift); };
  });
}

}  // namespace lnfree::cpu
