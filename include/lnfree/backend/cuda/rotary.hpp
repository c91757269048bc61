#pragma once

#include <cmath>
#include <numbers>

#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/cuda/packs.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cuda {

/// Turns one pair of channels of one token, in all heads. The angle is computed once, in double: it grows
/// with the position, and a float would lose digits before whole turns are taken off.
template <class S>
struct TurnPair {
  AttentionShape shape;
  int dims;
  Matrix<S> qkv;
  bool inverse;

  template <int>
  __device__ void at(Index, Index number) const {
    const Index pairs = dims / 2, row = number / pairs, c = number % pairs;
    const Index positions = shape.length - shape.first, t = shape.first + row % positions;
    const Index i = row / positions * shape.length + t;
    const double turns = static_cast<double>(t) * pow(10000.0, -2.0 * static_cast<double>(c) / dims) *
                         (0.5 * std::numbers::inv_pi);
    const auto half_turns = static_cast<float>(2 * (turns - rint(turns)));
    const float cosine = cospif(half_turns), sine = inverse ? -sinpif(half_turns) : sinpif(half_turns);
    for (int head = 0; head < 2 * shape.heads; ++head) {  // the heads of Q, then those of K
      S* const x = qkv.row(i) + static_cast<Index>(head) * shape.head_dim + c;
      const float first = static_cast<float>(x[0]), second = static_cast<float>(x[pairs]);
      x[0] = first * cosine - second * sine;
      x[pairs] = second * cosine + first * sine;
    }
  }
};

template <CudaDevice D>
void rotary(D& device, AttentionShape shape, int dims, Matrix<typename D::Scalar> qkv, bool inverse) {
  for_each_pack<1>(device.stream(), 1, Index{shape.batch} * (shape.length - shape.first) * (dims / 2),
                   TurnPair<typename D::Scalar>{shape, dims, qkv, inverse});
}

}  // namespace lnfree::cuda
