#pragma once

#include <type_traits>

#include <lnfree/backend/reference/device.hpp>
#include <lnfree/core/concepts.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::reference {

template <class S, RowNorm N>
void norm_forward(Reference<S>&, N, std::type_identity_t<Matrix<const S>> x, const S* gain, const S* bias,
                  Matrix<S> y, RowStatistics<S>* rows) {
  for (Index i = 0; i < x.rows; ++i) {
    S mean = 0;
    for (Index j = 0; j < x.cols; ++j) mean += x.row(i)[j];
    mean /= static_cast<S>(x.cols);
    S variance = 0;
    for (Index j = 0; j < x.cols; ++j) variance += (x.row(i)[j] - mean) * (x.row(i)[j] - mean);
    variance /= static_cast<S>(x.cols);
    rows[i] = N::statistics(mean, variance);
    for (Index j = 0; j < x.cols; ++j) {
      S value = N::value(x.row(i)[j], rows[i]);
      if constexpr (N::has_gain) value *= gain[j];
      if constexpr (N::has_bias) value += bias[j];
      y.row(i)[j] = value;
    }
  }
}

template <class S, RowNorm N>
void norm_backward(Reference<S>&, N, std::type_identity_t<Matrix<const S>> x, const S* gain,
                   const RowStatistics<S>* rows, std::type_identity_t<Matrix<const S>> d_y,
                   std::type_identity_t<Output<S>> d_x, S* d_gain, S* d_bias) {
  for (Index i = 0; i < x.rows; ++i) {
    // Before gain and bias: the normalized row and its gradient.
    const auto normalized = [&](Index j) { return N::value(x.row(i)[j], rows[i]); };
    const auto d_normalized = [&](Index j) { return N::has_gain ? d_y.row(i)[j] * gain[j] : d_y.row(i)[j]; };
    S mean_d = 0, mean_d_normalized = 0;
    for (Index j = 0; j < x.cols; ++j) {
      mean_d += d_normalized(j);
      mean_d_normalized += d_normalized(j) * normalized(j);
      if constexpr (N::has_gain) d_gain[j] += d_y.row(i)[j] * normalized(j);
      if constexpr (N::has_bias) d_bias[j] += d_y.row(i)[j];
    }
    mean_d /= static_cast<S>(x.cols);
    mean_d_normalized /= static_cast<S>(x.cols);
    for (Index j = 0; j < x.cols; ++j) {
      const S gradient = N::gradient(d_normalized(j), normalized(j), rows[i], mean_d, mean_d_normalized);
      S& to = d_x.matrix.row(i)[j];
      to = d_x.adds() ? d_x.addend.row(i)[j] + gradient : gradient;
    }
  }
}

template <class S, PointwiseNorm N>
void norm_forward(Reference<S>&, N, std::type_identity_t<Matrix<const S>> x, NormParameters<const S> p,
                  Matrix<S> y) {
  const S alpha = *p.alpha, shift = N::has_shift ? *p.shift : S(0);
  for (Index i = 0; i < x.rows; ++i) {
    for (Index j = 0; j < x.cols; ++j) {
      S value = N::value(alpha * x.row(i)[j] + shift);
      if constexpr (N::has_gain) value *= p.gain[j];
      if constexpr (N::has_bias) value += p.bias[j];
      y.row(i)[j] = value;
    }
  }
}

template <class S, PointwiseNorm N>
void norm_backward(Reference<S>&, N, std::type_identity_t<Matrix<const S>> x, NormParameters<const S> p,
                   std::type_identity_t<Matrix<const S>> d_y, std::type_identity_t<Output<S>> d_x,
                   NormParameters<S> d) {
  const S alpha = *p.alpha, shift = N::has_shift ? *p.shift : S(0);
  for (Index i = 0; i < x.rows; ++i) {
    for (Index j = 0; j < x.cols; ++j) {
      const S u = alpha * x.row(i)[j] + shift, d_out = d_y.row(i)[j];
      if constexpr (N::has_gain) d.gain[j] += d_out * N::value(u);
      if constexpr (N::has_bias) d.bias[j] += d_out;
      const S d_u = (N::has_gain ? d_out * p.gain[j] : d_out) * N::derivative(u);
      *d.alpha += d_u * x.row(i)[j];
      if constexpr (N::has_shift) *d.shift += d_u;
      S& to = d_x.matrix.row(i)[j];
      to = d_x.adds() ? d_x.addend.row(i)[j] + d_u * alpha : d_u * alpha;
    }
  }
}

}  // namespace lnfree::reference
