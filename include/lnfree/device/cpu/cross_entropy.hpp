#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include <lnfree/core/math.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>
#include <lnfree/device/cpu/simd.hpp>

namespace lnfree::cpu {

/// The largest of `count` numbers; NaNs are ignored unless the first number is one.
template <class S>
float max_of(const S* values, Index count) {
  float max = values[0];
  Index j = 0;
  // Written with vectors, since clang does not vectorize a maximum with this treatment of NaNs. There are
  // four of them, so that a comparison does not wait for the previous one.
  constexpr int vectors = 4;
  if (count >= vectors * vector_width) {
    Vector lanes[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) lanes[v] = Vector{} + max;
    for (; j + vectors * vector_width <= count; j += vectors * vector_width) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        const Vector next = load(values + j + v * vector_width);
        lanes[v] = next > lanes[v] ? next : lanes[v];
      }
    }
    for (const Vector of : lanes) {
      for (int lane = 0; lane < vector_width; ++lane) max = of[lane] > max ? of[lane] : max;
    }
  }
  for (; j < count; ++j) max = values[j] > max ? static_cast<float>(values[j]) : max;
  return max;
}

template <CpuDevice D>
void cross_entropy_forward(D&, Matrix<const typename D::Scalar> logits, const std::int32_t* targets,
                           float* losses) {
  parallel_for(logits.rows, row_grain(logits.cols), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      if (targets[i] < 0) {
        losses[i] = 0;
        continue;
      }
      const typename D::Scalar* row = logits.row(i);
      const float max = max_of(row, logits.cols);
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (Index j = 0; j < logits.cols; ++j)
        sum += math::exp2(std::numbers::log2e_v<float> * (row[j] - max));
      losses[i] = std::log(sum) - (row[targets[i]] - max);
    }
  });
}

template <CpuDevice D>
void cross_entropy_forward_backward(D&, Matrix<typename D::Scalar> logits, const std::int32_t* targets,
                                    float* losses, double gradient_scale) {
  using S = typename D::Scalar;
  parallel_for(logits.rows, row_grain(logits.cols), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      S* row = logits.row(i);
      if (targets[i] < 0) {
        losses[i] = 0;
        std::fill(row, row + logits.cols, S(0.0f));
        continue;
      }
      const float max = max_of(row, logits.cols);
      const float target = row[targets[i]] - max;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (Index j = 0; j < logits.cols; ++j) {
        const float e = math::exp2(std::numbers::log2e_v<float> * (row[j] - max));
        row[j] = e;
        sum += e;
      }
      losses[i] = std::log(sum) - target;
      const float scale = static_cast<float>(gradient_scale) / sum;
#pragma omp simd
      for (Index j = 0; j < logits.cols; ++j) row[j] *= scale;
      row[targets[i]] -= static_cast<float>(gradient_scale);
    }
  });
}

}  // namespace lnfree::cpu
