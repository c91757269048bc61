#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include <lnfree/backend/primitives.hpp>
#include <lnfree/backend/reference/device.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::reference {

template <class S>
void entropy_sums(Reference<S>&, std::type_identity_t<Matrix<const S>> rows, S* sums,
                  std::int32_t* finite_rows) {
  for (Index r = 0; r < rows.rows; ++r) {
    sums[r] = 0;
    finite_rows[r] = 0;
    for (Index i = 0; i < rows.cols; ++i) {
      if (!math::is_finite(rows.row(r)[i])) continue;
      sums[r] += rows.row(r)[i];
      ++finite_rows[r];
    }
  }
}

template <class S>
void entropy_penalty(Reference<S>&, const EntropyPenalty& penalty, int heads,
                     std::type_identity_t<Matrix<const S>> rows, const S* thresholds, S* sums,
                     Matrix<S> d_rows, S* d_thresholds) {
  for (Index r = 0; r < rows.rows; ++r) {
    const S threshold = thresholds[r % heads] * static_cast<S>(penalty.max_entropy);
    sums[r] = 0;
    for (Index i = 0; i < rows.cols; ++i) {
      const S deviation = rows.row(r)[i] - threshold;
      const bool counts = std::abs(deviation) > static_cast<S>(penalty.margin) && math::is_finite(deviation);
      sums[r] += counts ? deviation * deviation : S(0);
      const S d_deviation = counts ? S(2) * static_cast<S>(penalty.scale) * deviation : S(0);
      d_rows.row(r)[i] = d_deviation;
      d_thresholds[r % heads] -= d_deviation * static_cast<S>(penalty.max_entropy);
    }
  }
}

}  // namespace lnfree::reference
