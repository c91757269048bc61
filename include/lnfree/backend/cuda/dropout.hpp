#pragma once

#include <cassert>
#include <cmath>
#include <cstdint>

#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/cuda/packs.hpp>
#include <lnfree/core/random.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cuda {

template <class S>
struct DropBlock {
  S* values;
  Index count;
  std::uint64_t threshold;  ///< An element whose draw is below this is dropped.
  float scale;
  Philox random;

  /// The four elements of one draw; fewer at the end of the array.
  template <int>
  __device__ void at(Index, Index position) const {
    const Philox::Block draw = random(static_cast<std::uint64_t>(position));
    for (int lane = 0; lane < 4 && 4 * position + lane < count; ++lane) {
      S& value = values[4 * position + lane];
      value = draw[lane] < threshold ? 0.0f : static_cast<float>(value) * scale;
    }
  }
};

/// x must be contiguous.
template <CudaDevice D>
void dropout(D& device, Matrix<typename D::Scalar> x, double rate, Philox random) {
  assert(x.is_contiguous());
  const DropBlock<typename D::Scalar> body{x.data, x.size(),
                                           static_cast<std::uint64_t>(std::ceil(rate * 4294967296.0)),
                                           static_cast<float>(1.0 / (1.0 - rate)), random};
  for_each_pack<1>(device.stream(), 1, (x.size() + 3) / 4, body);
}

}  // namespace lnfree::cuda
