#pragma once

#include <cmath>
#include <cstdint>

#include <lnfree/core/math.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>
#include <lnfree/device/primitives.hpp>

namespace lnfree::cpu {

inline void entropy_sums(Cores&, Matrix<const float> rows, float* sums, std::int32_t* finite_rows) {
  parallel_for(rows.rows, row_grain(rows.cols), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      double sum = 0;
      std::int32_t finite = 0;
      for (Index i = 0; i < rows.cols; ++i) {
        const float entropy = rows.row(r)[i];
        const bool counts = math::is_finite(entropy);
        sum += counts ? static_cast<double>(entropy) : 0.0;
        finite += counts;
      }
      sums[r] = static_cast<float>(sum);
      finite_rows[r] = finite;
    }
  });
}

/// Threads share the heads, so that each threshold's sum runs over the rows in order.
template <CpuDevice D>
void entropy_penalty(D&, const EntropyPenalty& penalty, int heads, Matrix<const float> rows,
                     const typename D::Scalar* thresholds, float* sums, Matrix<float> d_rows,
                     float* d_thresholds) {
  const auto max_entropy = static_cast<float>(penalty.max_entropy),
             margin = static_cast<float>(penalty.margin);
  const auto twice_scale = static_cast<float>(2 * penalty.scale);
  parallel_for(heads, row_grain(rows.cols * (rows.rows / heads)), [&](Index begin, Index end) {
    for (Index head = begin; head < end; ++head) {
      const float threshold = thresholds[head] * max_entropy;
      double total = 0;
      for (Index r = head; r < rows.rows; r += heads) {
        float sum = 0, d_sum = 0;
#pragma omp simd reduction(+ : sum, d_sum)
        for (Index i = 0; i < rows.cols; ++i) {
          const float deviation = rows.row(r)[i] - threshold;
          const bool counts = std::abs(deviation) > margin && math::is_finite(deviation);
          const float counted = counts ? deviation : 0.0f;
          sum += counted * counted;
          d_sum += twice_scale * counted;
          d_rows.row(r)[i] = twice_scale * counted;
        }
        sums[r] = sum;
        total += static_cast<double>(d_sum);
      }
      d_thresholds[head] -= static_cast<float>(total) * max_entropy;
    }
  });
}

}  // namespace lnfree::cpu
