#pragma once

#include <cstdint>
#include <type_traits>

#include <lnfree/core/math.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/eigen/device.hpp>
#include <lnfree/device/eigen/views.hpp>
#include <lnfree/device/primitives.hpp>

namespace lnfree::eigen {

template <class S>
void entropy_sums(EigenCpu<S>&, std::type_identity_t<Matrix<const S>> rows, S* sums,
                  std::int32_t* finite_rows) {
  for_each_row(rows.rows, rows.cols, [&](Index r) {
    const auto entropies = row(rows, r);
    const auto finite = entropies.unaryExpr([](S entropy) { return math::is_finite(entropy); });
    sums[r] = static_cast<S>(finite.select(entropies, S(0)).template cast<double>().sum());
    finite_rows[r] = static_cast<std::int32_t>(finite.count());
  });
}

/// Threads share the heads, so that each threshold's sum runs over the rows in order.
template <class S>
void entropy_penalty(EigenCpu<S>&, const EntropyPenalty& penalty, int heads,
                     std::type_identity_t<Matrix<const S>> rows, const S* thresholds, S* sums,
                     Matrix<S> d_rows, S* d_thresholds) {
  const S max_entropy = static_cast<S>(penalty.max_entropy), margin = static_cast<S>(penalty.margin);
  const auto counted = [margin](S deviation) {
    return (deviation > margin || deviation < -margin) && math::is_finite(deviation) ? deviation : S(0);
  };
  for_each_row(heads, rows.cols * (rows.rows / heads), [&](Index head) {
    for (Index r = head; r < rows.rows; r += heads) {
      auto deviations = row(d_rows, r);
      deviations = (row(rows, r) - thresholds[head] * max_entropy).unaryExpr(counted);
      sums[r] = deviations.square().sum();
      deviations *= static_cast<S>(2 * penalty.scale);
      d_thresholds[head] -= deviations.sum() * max_entropy;
    }
  });
}

}  // namespace lnfree::eigen
