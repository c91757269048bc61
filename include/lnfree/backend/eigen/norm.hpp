#pragma once

#include <type_traits>

#include <lnfree/backend/eigen/device.hpp>
#include <lnfree/backend/eigen/views.hpp>
#include <lnfree/core/concepts.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::eigen {

/// What `gain` and `bias` make of a normalized row, where the policy has them.
template <class N, class S, class Expression>
void store_scaled(Row<S> y, const Expression& normalized, [[maybe_unused]] const S* gain,
                  [[maybe_unused]] const S* bias) {
  if constexpr (N::has_gain && N::has_bias) {
    y = normalized * numbers(gain, y.size()) + numbers(bias, y.size());
  } else if constexpr (N::has_gain) {
    y = normalized * numbers(gain, y.size());
  } else if constexpr (N::has_bias) {
    y = normalized + numbers(bias, y.size());
  } else {
    y = normalized;
  }
}

template <class S, class Expression>
void store_gradient(Output<S> d_x, Index i, const Expression& gradient) {
  if (d_x.adds()) {
    row(d_x.matrix, i) = row(d_x.addend, i) + gradient;
  } else {
    row(d_x.matrix, i) = gradient;
  }
}

/// d_gain_j += sum_i d_y_ij n_i(x_ij) and d_bias_j += sum_i d_y_ij, where the policy has them; normalized(i)
/// is n_i.
template <class N, class S, class Normalized>
void gain_and_bias_backward(Matrix<const S> x, Matrix<const S> d_y, [[maybe_unused]] S* d_gain,
                            [[maybe_unused]] S* d_bias, const Normalized& normalized) {
  if constexpr (N::has_gain || N::has_bias) {
    for_each_column_part(x.rows, x.cols, [&](Index begin, Index count) {
      for (Index i = 0; i < x.rows; ++i) {
        const auto d_out = row(d_y.columns(begin, count), i);
        if constexpr (N::has_gain)
          numbers(d_gain + begin, count) += d_out * row(x.columns(begin, count), i).unaryExpr(normalized(i));
        if constexpr (N::has_bias) numbers(d_bias + begin, count) += d_out;
      }
    });
  }
}

template <class S, RowNorm N>
void norm_forward(EigenCpu<S>&, N, std::type_identity_t<Matrix<const S>> x, const S* gain, const S* bias,
                  Matrix<S> y, RowStatistics<S>* rows) {
  for_each_row(x.rows, x.cols, [&](Index i) {
    const auto of_row = row(x, i);
    const S mean = of_row.mean(), variance = (of_row - mean).square().mean();
    rows[i] = N::statistics(mean, variance);
    const auto normalize = [statistics = rows[i]](S value) { return N::value(value, statistics); };
    store_scaled<N>(row(y, i), of_row.unaryExpr(normalize), gain, bias);
  });
}

template <class S, RowNorm N>
void norm_backward(EigenCpu<S>&, N, std::type_identity_t<Matrix<const S>> x, const S* gain,
                   const RowStatistics<S>* rows, std::type_identity_t<Matrix<const S>> d_y,
                   std::type_identity_t<Output<S>> d_x, S* d_gain, S* d_bias) {
  const auto normalize = [rows](Index i) {
    return [statistics = rows[i]](S value) { return N::value(value, statistics); };
  };
  gain_and_bias_backward<N, S>(x, d_y, d_gain, d_bias, normalize);
  for_each_row(x.rows, x.cols, [&](Index i) {
    const auto backward = [&](const auto& d_normalized) {
      const auto normalized = row(x, i).unaryExpr(normalize(i));
      const S mean = d_normalized.mean(), product_mean = (d_normalized * normalized).mean();
      store_gradient(d_x, i, d_normalized.binaryExpr(normalized, [=](S d, S value) {
        return N::gradient(d, value, rows[i], mean, product_mean);
      }));
    };
    if constexpr (N::has_gain) {
      backward(row(d_y, i) * numbers(gain, x.cols));
    } else {
      backward(row(d_y, i));
    }
  });
}

template <class S, PointwiseNorm N>
void norm_forward(EigenCpu<S>&, N, std::type_identity_t<Matrix<const S>> x, NormParameters<const S> p,
                  Matrix<S> y) {
  const S alpha = *p.alpha, shift = N::has_shift ? *p.shift : S(0);
  for_each_row(x.rows, x.cols, [&](Index i) {
    store_scaled<N>(row(y, i), (alpha * row(x, i) + shift).unaryExpr([](S u) { return N::value(u); }), p.gain,
                    p.bias);
  });
}

template <class S, PointwiseNorm N>
void norm_backward(EigenCpu<S>&, N, std::type_identity_t<Matrix<const S>> x, NormParameters<const S> p,
                   std::type_identity_t<Matrix<const S>> d_y, std::type_identity_t<Output<S>> d_x,
                   NormParameters<S> d) {
  const S alpha = *p.alpha, shift = N::has_shift ? *p.shift : S(0);
  gain_and_bias_backward<N, S>(x, d_y, d.gain, d.bias, [=](Index) {
    return [=](S value) { return N::value(alpha * value + shift); };
  });
  // Calls use(i, d_u) for each row with the gradient of u = alpha x + shift.
  const auto with_d_u = [&](Index i, const auto& use) {
    const auto derivative = (alpha * row(x, i) + shift).unaryExpr([](S u) { return N::derivative(u); });
    if constexpr (N::has_gain) {
      return use(row(d_y, i) * numbers(p.gain, x.cols) * derivative);
    } else {
      return use(row(d_y, i) * derivative);
    }
  };
  *d.alpha += static_cast<S>(sum_over_rows(x.rows, x.cols, [&](Index i) {
    return with_d_u(i, [&](const auto& d_u) { return (d_u * row(x, i)).sum(); });
  }));
  if constexpr (N::has_shift) {
    *d.shift += static_cast<S>(sum_over_rows(
        x.rows, x.cols, [&](Index i) { return with_d_u(i, [](const auto& d_u) { return d_u.sum(); }); }));
  }
  for_each_row(x.rows, x.cols,
               [&](Index i) { with_d_u(i, [&](const auto& d_u) { store_gradient(d_x, i, d_u * alpha); }); });
}

}  // namespace lnfree::eigen
