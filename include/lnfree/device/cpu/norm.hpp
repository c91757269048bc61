#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>
#include <lnfree/device/cpu/row_sums.hpp>
#include <lnfree/norm/call.hpp>

namespace lnfree::cpu {

/// Rows whose statistics are computed together, so that one row's sum hides the latency of another's.
inline constexpr Index rows_together = 8;

/// The parameters of a norm as its loops over columns read them.
template <class N, class S>
class NormColumns {
 public:
  explicit NormColumns(NormPointers<const S, N> parameters) : parameters_(parameters) {
    for_norm_parameters<N>([&](auto k) {
      if constexpr (!is_per_channel<N, k()>) scalars_[k()] = static_cast<float>(*parameters.of[k()]);
    });
  }

  /// The norm's value of element j of a row. A separate function, because g++ does not vectorize a loop in
  /// which an object is declared.
  [[gnu::always_inline]] float value(const S* row, Index j, RowStatistics<float> statistics) const {
    return element(row, j, statistics).value();
  }
  [[gnu::always_inline]] float slope(const S* row, Index j, RowStatistics<float> statistics) const {
    return element(row, j, statistics).slope();
  }
  template <int k>
  [[gnu::always_inline]] float slope_of_parameter(const S* row, Index j,
                                                  RowStatistics<float> statistics) const {
    return element(row, j, statistics).template slope_of_parameter<k>();
  }

  /// Element j of a row with everything its norm depends on.
  [[gnu::always_inline]] NormElement<N, float> element(const S* row, Index j,
                                                       RowStatistics<float> statistics) const {
    return [&]<int... k>(std::integer_sequence<int, k...>) LNFREE_INLINE_LAMBDA {
      return NormElement<N, float>{static_cast<float>(row[j]), statistics, {number<k>(j)...}};
    }(std::make_integer_sequence<int, norm_parameter_count<N>>());
  }

 private:
  template <int k>
  [[gnu::always_inline]] float number(Index j) const {
    if constexpr (is_per_channel<N, k>) {
      return static_cast<float>(parameters_.of[k][j]);
    } else {
      return scalars_[k];
    }
  }

  NormPointers<const S, N> parameters_;
  float scalars_[norm_parameter_count<N> > 0 ? norm_parameter_count<N> : 1] = {};
};

template <CpuDevice D, Norm N>
void norm_forward(D&, N, Matrix<const typename D::Scalar> x,
                  NormPointers<const typename D::Scalar, N> parameters, Output<typename D::Scalar> y,
                  [[maybe_unused]] NormRow<float>* rows) {
  using S = typename D::Scalar;
  const NormColumns<N, S> columns(parameters);
  parallel_for(x.rows, row_grain(x.cols), [&](Index begin, Index end) {
    const float per_column = 1.0f / static_cast<float>(x.cols);
    for (Index first = begin; first < end; first += rows_together) {
      const int count = static_cast<int>(std::min(rows_together, end - first));
      if constexpr (RowNorm<N>) {
        float mean[rows_together], variance[rows_together];
        for (int r = 0; r < count; ++r) {
          const S* in = x.row(first + r);
          const auto [sum] =
              row_sums(x.cols, [in](Index j) { return std::array{static_cast<float>(in[j])}; });
          mean[r] = sum * per_column;
        }
        for (int r = 0; r < count; ++r) {
          const auto [squares] = row_sums(x.cols, [in = x.row(first + r), center = mean[r]](Index j) {
            const float deviation = in[j] - center;
            return std::array{deviation * deviation};
          });
          variance[r] = squares * per_column;
        }
        for (int r = 0; r < count; ++r) rows[first + r] = norm_row<N>(mean[r], variance[r]);
      }
      for (Index i = first; i < first + count; ++i) {
        const S* in = x.row(i);
        S* out = y.matrix.row(i);
        RowStatistics<float> row{};
        if constexpr (RowNorm<N>) row = rows[i].statistics;
        if (y.adds()) {
          const S* const addend = y.addend.row(i);
#pragma omp simd
          for (Index j = 0; j < x.cols; ++j)
            out[j] = static_cast<float>(addend[j]) + columns.value(in, j, row);
        } else {
#pragma omp simd
          for (Index j = 0; j < x.cols; ++j) out[j] = columns.value(in, j, row);
        }
      }
    }
  });
}

/// The gradients of the parameters that have a number for each channel.
template <class N, class S>
void norm_vectors_backward(Matrix<const S> x, const NormColumns<N, S>& columns, const NormRow<float>* rows,
                           Matrix<const S> d_y, NormPointers<float, N> d_parameters) {
  for_column_parts(x.rows, x.cols, [&](Index begin, Index end) {
    for (Index i = 0; i < x.rows; ++i) {
      const S *in = x.row(i), *d_out = d_y.row(i);
      RowStatistics<float> row{};
      if constexpr (RowNorm<N>) row = rows[i].statistics;
#pragma omp simd
      for (Index j = begin; j < end; ++j) {
        for_learned_parameters<N>([&](auto k) LNFREE_INLINE_LAMBDA {
          if constexpr (is_per_channel<N, k()>)
            d_parameters.of[k()][j] += d_out[j] * columns.template slope_of_parameter<k()>(in, j, row);
        });
      }
    }
  });
}

template <CpuDevice D, Norm N>
void norm_backward(D&, N, Matrix<const typename D::Scalar> x,
                   NormPointers<const typename D::Scalar, N> parameters,
                   [[maybe_unused]] const NormRow<float>* rows, Matrix<const typename D::Scalar> d_y,
                   Output<typename D::Scalar> d_x, NormPointers<float, N> d_parameters) {
  using S = typename D::Scalar;
  constexpr int scalars = norm_scalar_count<N>;
  constexpr int statistics = RowNorm<N> ? 2 : 0;  // their gradients are sums over the row
  constexpr int sums = statistics + scalars;
  const NormColumns<N, S> columns(parameters);
  const float kept = d_x.adds() ? 1.0f : 0.0f;
  const float per_column = 1.0f / static_cast<float>(x.cols);

  /// What one row adds to the gradients of the norm's scalars.
  const auto backward_of_row = [&](Index i) -> std::array<float, scalars> {
    const S *const in = x.row(i), *const d_out = d_y.row(i);
    S* const to = d_x.matrix.row(i);
    const S* const addend = d_x.adds() ? d_x.addend.row(i) : to;
    NormRow<float> kept_row{};
    if constexpr (RowNorm<N>) kept_row = rows[i];
    const RowStatistics<float> row = kept_row.statistics;
    const auto terms = [=](Index j) LNFREE_INLINE_LAMBDA {
      const NormElement<N, float> element = columns.element(in, j, row);
      const float d = d_out[j];
      std::array<float, sums> all;
      if constexpr (RowNorm<N>) {
        all[0] = d * element.slope_of_shift();
        all[1] = d * element.slope_of_scale();
      }
      for_learned_parameters<N>([&](auto k) LNFREE_INLINE_LAMBDA {
        if constexpr (!is_per_channel<N, k()>)
          all[statistics + norm_rank<N, k()>] = d * element.template slope_of_parameter<k()>();
      });
      return all;
    };
    const auto write = [=](Index j, RowGradient<float> of_row) LNFREE_INLINE_LAMBDA {
      float gradient = d_out[j] * columns.slope(in, j, row);
      if constexpr (RowNorm<N>)
        gradient += of_row.mean + of_row.variance * (static_cast<float>(in[j]) - kept_row.moments.mean);
      to[j] = (kept != 0.0f ? static_cast<float>(addend[j]) : 0.0f) + gradient;
    };
    std::array<float, scalars> of_scalars;
    if constexpr (RowNorm<N>) {
      const std::array<float, sums> totals = row_sums(x.cols, terms);
      const RowGradient<float> of_row = row_gradient<N>(kept_row.moments, totals[0], totals[1], per_column);
#pragma omp simd
      for (Index j = 0; j < x.cols; ++j) write(j, of_row);
      std::copy_n(totals.begin() + statistics, scalars, of_scalars.begin());
    } else if constexpr (scalars > 0) {
      of_scalars = row_sums(x.cols, [=](Index j) LNFREE_INLINE_LAMBDA {
        write(j, {});
        return terms(j);
      });
    } else {
#pragma omp simd
      for (Index j = 0; j < x.cols; ++j) write(j, {});
    }
    return of_scalars;
  };

  if constexpr (scalars == 0) {
    parallel_for(x.rows, row_grain(x.cols), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) backward_of_row(i);
    });
  } else {
    // A fixed number of partial sums, so that the result does not depend on the thread count.
    std::array<std::array<double, scalars>, 64> partial{};
    const Index parts = static_cast<Index>(partial.size());
    parallel_for(parts, 1, [&](Index begin, Index end) {
      for (Index part = begin; part < end; ++part) {
        for (Index i = x.rows * part / parts; i < x.rows * (part + 1) / parts; ++i) {
          const auto of_row = backward_of_row(i);
          for (std::size_t s = 0; s < of_row.size(); ++s)
            partial[static_cast<std::size_t>(part)][s] += static_cast<double>(of_row[s]);
        }
      }
    });
    for_learned_parameters<N>([&](auto k) {
      if constexpr (!is_per_channel<N, k()>) {
        double total = 0;
        for (const auto& of_part : partial) total += of_part[norm_rank<N, k()>];
        *d_parameters.of[k()] += static_cast<float>(total);
      }
    });
  }
  if constexpr (norm_vector_count<N> > 0) norm_vectors_backward<N, S>(x, columns, rows, d_y, d_parameters);
}

}  // namespace lnfree::cpu
