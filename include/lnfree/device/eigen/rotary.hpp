#pragma once

#include <cmath>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/eigen/device.hpp>
#include <lnfree/device/eigen/views.hpp>

namespace lnfree::eigen {

/// Threads share the positions, so that the angles of each are computed once.
template <class S>
void rotary(EigenCpu<S>&, AttentionShape shape, int dims, Matrix<S> qkv, bool inverse) {
  using Pair = Eigen::Map<Eigen::Matrix<S, 2, 1>, Eigen::Unaligned, Eigen::InnerStride<>>;
  const Index pairs = dims / 2;
  for_each_row(shape.length - shape.first, shape.batch * 2 * dims, [&](Index number) {
    const Index position = shape.first + number;
    for (Index c = 0; c < pairs; ++c) {
      const double angle =
          (inverse ? -1.0 : 1.0) * static_cast<double>(position) * std::pow(10000.0, -2.0 * double(c) / dims);
      const S cosine = static_cast<S>(std::cos(angle)), sine = static_cast<S>(std::sin(angle));
      const Eigen::Matrix<S, 2, 2> turn{{cosine, -sine}, {sine, cosine}};
      for (Index i = position; i < qkv.rows; i += shape.length) {
        for (Index head = 0; head < 2 * shape.heads; ++head) {  // the heads of Q, then those of K
          Pair pair(qkv.row(i) + head * shape.head_dim + c, Eigen::InnerStride<>(pairs));
          pair = (turn * pair).eval();
        }
      }
    }
  });
}

}  // namespace lnfree::eigen
