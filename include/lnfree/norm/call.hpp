#pragma once

#include <cstddef>
#include <utility>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/dual.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/core/policies.hpp>
#include <lnfree/core/tensor.hpp>

/// One way to call every norm and to differentiate it.
namespace lnfree {

/// How many of a norm's learned parameters have a number for each channel, or one for all.
template <class N, bool per_channel>
inline constexpr int learned_parameter_count = [] {
  int count = 0;
  if constexpr (norm_parameter_count<N> > 0) {
    for (const NormParameter& parameter : N::parameters)
      count += parameter.is_learned && parameter.is_per_channel == per_channel;
  }
  return count;
}();

/// How many of a norm's learned parameters have one number for all channels.
template <class N>
inline constexpr int norm_scalar_count = learned_parameter_count<N, false>;

/// How many have a number for each channel.
template <class N>
inline constexpr int norm_vector_count = learned_parameter_count<N, true>;

/// Parameter k.
template <class N, int k>
inline constexpr NormParameter norm_parameter = N::parameters[static_cast<std::size_t>(k)];

/// Whether parameter k has a number for each channel.
template <class N, int k>
inline constexpr bool is_per_channel = norm_parameter<N, k>.is_per_channel;

/// How many learned scalars, or vectors, come before parameter k.
template <class N, int k>
inline constexpr int norm_rank = [] {
  int rank = 0;
  for (int before = 0; before < k; ++before) {
    const NormParameter& parameter = N::parameters[static_cast<std::size_t>(before)];
    rank += parameter.is_learned && parameter.is_per_channel == is_per_channel<N, k>;
  }
  return rank;
}();

/// Calls f(k) with k() == 0, 1, ... for each parameter of a norm.
template <class N, class F>
LNFREE_HOST_DEVICE inline void for_norm_parameters(const F& f) {
  [&]<int... k>(std::integer_sequence<int, k...>) LNFREE_INLINE_LAMBDA {
    (f(std::integral_constant<int, k>()), ...);
  }(std::make_integer_sequence<int, norm_parameter_count<N>>());
}

/// The same for each learned parameter.
template <class N, class F>
LNFREE_HOST_DEVICE inline void for_learned_parameters(const F& f) {
  for_norm_parameters<N>([&](auto k) LNFREE_INLINE_LAMBDA {
    if constexpr (norm_parameter<N, k()>.is_learned) f(k);
  });
}

/// Pointers to the parameters of a norm, or to their gradients; parameters that are not learned have none.
template <class T, class N>
struct NormPointers {
  T* of[norm_parameter_count<N> > 0 ? norm_parameter_count<N> : 1] = {};
};

/// The NormRow of a row with these moments.
template <RowNorm N, class T>
LNFREE_HOST_DEVICE inline NormRow<T> norm_row(T mean, T variance) {
  return {{mean, variance}, N::statistics(mean, variance)};
}

/// An element of a row with everything its norm depends on.
template <class N, class T>
struct NormElement {
  static constexpr int count = norm_parameter_count<N>;

  T x;
  RowStatistics<T> row;
  T p[count > 0 ? count : 1];

  /// y.
  LNFREE_HOST_DEVICE T value() const { return call(x, row, p); }

  /// dy / dx, and the derivatives with respect to the row's statistics and to parameter k.
  LNFREE_HOST_DEVICE T slope() const { return along(T(1), T(0), T(0), -1); }
  LNFREE_HOST_DEVICE T slope_of_shift() const { return along(T(0), T(1), T(0), -1); }
  LNFREE_HOST_DEVICE T slope_of_scale() const { return along(T(0), T(0), T(1), -1); }
  template <int k>
  LNFREE_HOST_DEVICE T slope_of_parameter() const {
    return along(T(0), T(0), T(0), k);
  }

 private:
  template <class U>
  LNFREE_HOST_DEVICE static U call(U x, [[maybe_unused]] RowStatistics<U> row,
                                   [[maybe_unused]] const U (&p)[count > 0 ? count : 1]) {
    if constexpr (RowNorm<N> && count > 0) {
      return N::value(x, row, p);
    } else if constexpr (RowNorm<N>) {
      return N::value(x, row);
    } else if constexpr (count > 0) {
      return N::value(x, p);
    } else {
      return N::value(x);
    }
  }

  /// The derivative in the direction of (x, shift, scale, parameter k).
  LNFREE_HOST_DEVICE T along(T d_x, T d_shift, T d_scale, int k) const {
    using D = Dual<T>;
    return [&]<int... i>(std::integer_sequence<int, i...>) LNFREE_INLINE_LAMBDA {
      const D duals[count > 0 ? count : 1] = {D(p[i], i == k ? T(1) : T(0))...};
      return call(D(x, d_x), RowStatistics<D>{D(row.shift, d_shift), D(row.scale, d_scale)}, duals).slope;
    }(std::make_integer_sequence<int, (count > 0 ? count : 1)>());
  }
};

/// How the mean and the variance of a row enter the gradient of its elements: d_x_j += mean + variance (x_j -
/// mean of the row).
template <class T>
struct RowGradient {
  T mean;
  T variance;
};

/// Computes it from the gradients of a row's statistics, summed over its `1 / per_column` elements.
template <class N, class T>
LNFREE_HOST_DEVICE inline RowGradient<T> row_gradient(RowMoments<T> moments, T d_shift, T d_scale,
                                                      T per_column) {
  using D = Dual<T>;
  const RowStatistics<D> by_mean = N::statistics(D(moments.mean, T(1)), D(moments.variance));
  const RowStatistics<D> by_variance = N::statistics(D(moments.mean), D(moments.variance, T(1)));
  return {(d_shift * by_mean.shift.slope + d_scale * by_mean.scale.slope) * per_column,
          (d_shift * by_variance.shift.slope + d_scale * by_variance.scale.slope) * T(2) * per_column};
}

}  // namespace lnfree
