#pragma once

#include <cmath>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>

namespace lnfree::cpu {

/// Threads share the positions, so that the angles of each are computed once for all sequences and heads.
template <CpuDevice D>
void rotary(D&, AttentionShape shape, int dims, Matrix<typename D::Scalar> qkv, bool inverse) {
  using S = typename D::Scalar;
  const Index pairs = dims / 2;
  const Index positions = shape.length - shape.first;
  parallel_for(positions, row_grain(Index{shape.batch} * 2 * shape.width()), [&](Index begin, Index end) {
    for (Index t = shape.first + begin; t < shape.first + end; ++t) {
      for (Index c = 0; c < pairs; ++c) {
        const double angle = static_cast<double>(t) * std::pow(10000.0, -2.0 * static_cast<double>(c) / dims);
        const auto cosine = static_cast<float>(std::cos(angle));
        const auto sine = static_cast<float>(inverse ? -std::sin(angle) : std::sin(angle));
        for (Index b = 0; b < shape.batch; ++b) {
          S* const row = qkv.row(b * shape.length + t);
          for (Index head = 0; head < 2 * shape.heads; ++head) {  // the heads of Q, then those of K
            S* const x = row + head * shape.head_dim + c;
            const float first = x[0], second = x[pairs];
            x[0] = first * cosine - second * sine;
            x[pairs] = second * cosine + first * sine;
          }
        }
      }
    }
  });
}

}  // namespace lnfree::cpu
