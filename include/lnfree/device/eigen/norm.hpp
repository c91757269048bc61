#pragma once

#include <type_traits>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/eigen/device.hpp>
#include <lnfree/device/eigen/views.hpp>
#include <lnfree/norm/call.hpp>

namespace lnfree::eigen {

/// A row whose number j is f(NormElement of element j).
template <class N, class S, class F>
auto of_elements(const S* x, Index cols, RowStatistics<S> statistics,
                 const NormPointers<const S, N>& parameters, const F& f) {
  return Eigen::Array<S, 1, Eigen::Dynamic>::NullaryExpr(cols, [=](Index j) {
    NormElement<N, S> element{x[j], statistics, {}};
    for_norm_parameters<N>(
        [&](auto k) { element.p[k()] = parameters.of[k()][is_per_channel<N, k()> ? j : 0]; });
    return f(element);
  });
}

template <class S, class Expression>
void store(Output<S> to, Index i, const Expression& numbers) {
  if (to.adds()) {
    row(to.matrix, i) = row(to.addend, i) + numbers;
  } else {
    row(to.matrix, i) = numbers;
  }
}

template <class S, Norm N>
void norm_forward(EigenCpu<S>&, N, std::type_identity_t<Matrix<const S>> x,
                  NormPointers<const S, N> parameters, std::type_identity_t<Output<S>> y,
                  [[maybe_unused]] NormRow<S>* rows) {
  for_each_row(x.rows, x.cols, [&](Index i) {
    RowStatistics<S> statistics{};
    if constexpr (RowNorm<N>) {
      const auto of_row = row(x, i);
      const S mean = of_row.mean();
      rows[i] = norm_row<N>(mean, static_cast<S>((of_row - mean).square().mean()));
      statistics = rows[i].statistics;
    }
    const auto value = [](const auto& element) { return element.value(); };
    store(y, i, of_elements<N>(x.row(i), x.cols, statistics, parameters, value));
  });
}

template <class S, Norm N>
void norm_backward(EigenCpu<S>&, N, std::type_identity_t<Matrix<const S>> x,
                   NormPointers<const S, N> parameters, [[maybe_unused]] const NormRow<S>* rows,
                   std::type_identity_t<Matrix<const S>> d_y, std::type_identity_t<Output<S>> d_x,
                   NormPointers<S, N> d_parameters) {
  const auto row_of = [rows](Index i) { return RowNorm<N> ? rows[i] : NormRow<S>{}; };

  // The gradients of the parameters: a sum over the rows for each channel, or over all elements.
  for_learned_parameters<N>([&](auto k) {
    constexpr int index = k();
    const auto slope = [](const auto& element) { return element.template slope_of_parameter<index>(); };
    S* const d_parameter = d_parameters.of[index];
    if constexpr (is_per_channel<N, index>) {
      for_column_parts(x.rows, x.cols, [&](Index begin, Index end) {
        const Index count = end - begin;
        NormPointers<const S, N> part = parameters;
        for_norm_parameters<N>([&](auto p) {
          if constexpr (is_per_channel<N, p()>) part.of[p()] += begin;
        });
        for (Index i = 0; i < x.rows; ++i) {
          numbers(d_parameter + begin, count) +=
              numbers(d_y.row(i) + begin, count) *
              of_elements<N>(x.row(i) + begin, count, row_of(i).statistics, part, slope);
        }
      });
    } else {
      *d_parameter += static_cast<S>(sum_over_rows(x.rows, x.cols, [&](Index i) {
        return (row(d_y, i) * of_elements<N>(x.row(i), x.cols, row_of(i).statistics, parameters, slope))
            .sum();
      }));
    }
  });

  for_each_row(x.rows, x.cols, [&](Index i) {
    const NormRow<S> kept = row_of(i);
    const auto d_out = row(d_y, i);
    const auto of_row = [&](const auto& f) {
      return of_elements<N>(x.row(i), x.cols, kept.statistics, parameters, f);
    };
    const auto d_direct = d_out * of_row([](const auto& element) { return element.slope(); });
    if constexpr (RowNorm<N>) {
      const S d_shift = (d_out * of_row([](const auto& e) { return e.slope_of_shift(); })).sum();
      const S d_scale = (d_out * of_row([](const auto& e) { return e.slope_of_scale(); })).sum();
      const RowGradient<S> through =
          row_gradient<N>(kept.moments, d_shift, d_scale, S(1) / static_cast<S>(x.cols));
      store(d_x, i, d_direct + through.mean + through.variance * (row(x, i) - kept.moments.mean));
    } else {
      store(d_x, i, d_direct);
    }
  });
}

}  // namespace lnfree::eigen
