#pragma once

#include <array>
#include <cmath>
#include <concepts>

#include <lnfree/backend/cpu/device.hpp>
#include <lnfree/backend/cpu/tile_product.hpp>
#include <lnfree/core/adamw_step.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cpu {

inline double sum_of_squares(Cores&, const float* values, Index count) {
  // As many numbers as fill a vector once they are doubles.
  constexpr int width = vector_width / 2;
  using Floats [[gnu::vector_size(width * sizeof(float)), gnu::aligned(alignof(float)), gnu::may_alias]] =
      float;
  using Doubles [[gnu::vector_size(width * sizeof(double))]] = double;
  // A fixed number of partial sums, so that the result does not depend on the thread count.
  std::array<double, 256> partial{};
  const Index parts = static_cast<Index>(partial.size());
  parallel_for(parts, count < elementwise_grain ? parts : 1, [&](Index first, Index last) {
    for (Index part = first; part < last; ++part) {
      const Index begin = count * part / parts, end = count * (part + 1) / parts;
      Doubles lanes[4] = {};
      Index i = begin;
      for (; i + 4 * width <= end; i += 4 * width) {
        for (int v = 0; v < 4; ++v) {
          const auto wide =
              __builtin_convertvector(*reinterpret_cast<const Floats*>(values + i + v * width), Doubles);
          lanes[v] += wide * wide;
        }
      }
      double sum = 0;
      for (; i < end; ++i) sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
      const Doubles total = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
      for (int lane = 0; lane < width; ++lane) sum += total[lane];
      partial[static_cast<std::size_t>(part)] = sum;
    }
  });
  double total = 0;
  for (const double sum : partial) total += sum;
  return total;
}

template <CpuDevice D>
void adamw(D&, Index count, float* master, [[maybe_unused]] typename D::Scalar* value, float* gradient,
           float* m, float* v, const AdamWStep& step) {
  using S = typename D::Scalar;
  const auto beta1 = static_cast<float>(step.beta1), beta2 = static_cast<float>(step.beta2);
  const auto rest1 = static_cast<float>(1 - step.beta1), rest2 = static_cast<float>(1 - step.beta2);
  const auto decay = static_cast<float>(1 - step.learning_rate * step.weight_decay);
  const auto rate = static_cast<float>(step.learning_rate / step.correction1);
  const auto per_correction2 = static_cast<float>(1 / step.correction2);
  const auto epsilon = static_cast<float>(step.epsilon), scale = static_cast<float>(step.gradient_scale);
  parallel_for(count, elementwise_grain, [&](Index begin, Index end) {
#pragma omp simd
    for (Index i = begin; i < end; ++i) {
      const float g = gradient[i] * scale;
      const float new_m = beta1 * m[i] + rest1 * g;
      const float new_v = beta2 * v[i] + rest2 * g * g;
      m[i] = new_m;
      v[i] = new_v;
      master[i] = decay * master[i] - rate * new_m / (std::sqrt(new_v * per_correction2) + epsilon);
      // In float both are the same memory.
      if constexpr (!std::same_as<S, float>) value[i] = master[i];
      gradient[i] = 0;
    }
  });
}

}  // namespace lnfree::cpu
