#pragma once

#include <cmath>

#include <lnfree/backend/reference/device.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::reference {

template <class S>
void rotary(Reference<S>&, AttentionShape shape, int dims, Matrix<S> qkv, bool inverse) {
  const Index pairs = dims / 2;
  for (Index i = 0; i < qkv.rows; ++i) {
    for (Index head = 0; head < 2 * shape.heads; ++head) {  // those of Q, then those of K
      S* const x = qkv.row(i) + head * shape.head_dim;
      for (Index c = 0; c < pairs; ++c) {
        const double angle =
            static_cast<double>(i % shape.length) * std::pow(10000.0, -2.0 * double(c) / dims);
        const S cosine = static_cast<S>(std::cos(angle)),
                sine = static_cast<S>(std::sin(inverse ? -angle : angle));
        const S first = x[c], second = x[c + pairs];
        x[c] = first * cosine - second * sine;
        x[c + pairs] = second * cosine + first * sine;
      }
    }
  }
}

}  // namespace lnfree::reference
