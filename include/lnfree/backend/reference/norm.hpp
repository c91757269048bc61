#pragma once

#include <type_traits>

#include <lnfree/backend/reference/device.hpp>
#include <lnfree/core/concepts.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/norm/call.hpp>

namespace lnfree::reference {

/// Element j of a row with what its norm looks at.
template <class N, class S>
NormElement<N, S> norm_element(const S* row, Index j, RowStatistics<S> statistics,
                               const NormPointers<const S, N>& parameters) {
  NormElement<N, S> element{row[j], statistics, {}};
  for_norm_parameters<N>(
      [&](auto k) { element.p[k()] = parameters.of[k()][is_per_channel<N, k()> ? j : 0]; });
  return element;
}

template <class S, Norm N>
void norm_forward(Reference<S>&, N, std::type_identity_t<Matrix<const S>> x, NormPointers<const S, N> parameters,
                  std::type_identity_t<Output<S>> y, NormRow<S>* rows) {
  for (Index i = 0; i < x.rows; ++i) {
    RowStatistics<S> statistics{};
    if constexpr (RowNorm<N>) {
      S mean = 0, variance = 0;
      for (Index j = 0; j < x.cols; ++j) mean += x.row(i)[j];
      mean /= static_cast<S>(x.cols);
      for (Index j = 0; j < x.cols; ++j) variance += (x.row(i)[j] - mean) * (x.row(i)[j] - mean);
      variance /= static_cast<S>(x.cols);
      rows[i] = norm_row<N>(mean, variance);
      statistics = rows[i].statistics;
    }
    for (Index j = 0; j < x.cols; ++j) {
      const S value = norm_element<N>(x.row(i), j, statistics, parameters).value();
      y.matrix.row(i)[j] = y.adds() ? y.addend.row(i)[j] + value : value;
    }
  }
}

template <class S, Norm N>
void norm_backward(Reference<S>&, N, std::type_identity_t<Matrix<const S>> x,
                   NormPointers<const S, N> parameters, const NormRow<S>* rows,
                   std::type_identity_t<Matrix<const S>> d_y, std::type_identity_t<Output<S>> d_x,
                   NormPointers<S, N> d_parameters) {
  for (Index i = 0; i < x.rows; ++i) {
    const NormRow<S> row = RowNorm<N> ? rows[i] : NormRow<S>{};
    S d_shift = 0, d_scale = 0;
    for (Index j = 0; j < x.cols; ++j) {
      const auto element = norm_element<N>(x.row(i), j, row.statistics, parameters);
      const S d = d_y.row(i)[j];
      if constexpr (RowNorm<N>) {
        d_shift += d * element.slope_of_shift();
        d_scale += d * element.slope_of_scale();
      }
      for_norm_parameters<N>([&](auto k) {
        d_parameters.of[k()][is_per_channel<N, k()> ? j : 0] += d * element.template slope_of_parameter<k()>();
      });
    }
    RowGradient<S> of_row{0, 0};
    if constexpr (RowNorm<N>)
      of_row = row_gradient<N>(row.moments, d_shift, d_scale, S(1) / static_cast<S>(x.cols));
    for (Index j = 0; j < x.cols; ++j) {
      const S slope = norm_element<N>(x.row(i), j, row.statistics, parameters).slope();
      const S gradient =
          d_y.row(i)[j] * slope + of_row.mean + of_row.variance * (x.row(i)[j] - row.moments.mean);
      d_x.matrix.row(i)[j] = d_x.adds() ? d_x.addend.row(i)[j] + gradient : gradient;
    }
  }
}

}  // namespace lnfree::reference
