#pragma once

#include <cassert>
#include <cstdint>

#include <lnfree/core/random.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>

namespace lnfree::cpu {

/// x must be contiguous.
template <CpuDevice D>
void dropout(D&, Matrix<typename D::Scalar> x, double rate, Philox random) {
  using S = typename D::Scalar;
  assert(x.is_contiguous());
  const double threshold = rate * 4294967296.0;
  const float scale = static_cast<float>(1.0 / (1.0 - rate));
  const auto block = [&](Index position, Index count) {
    const Philox::Block draw = random(static_cast<std::uint64_t>(position));
    S* values = x.data + 4 * position;
    for (Index lane = 0; lane < count; ++lane)
      values[lane] = draw[static_cast<std::size_t>(lane)] < threshold ? 0.0f : values[lane] * scale;
  };
  parallel_for(x.size() / 4, elementwise_grain / 16, [&](Index begin, Index end) {
    for (Index position = begin; position < end; ++position) block(position, 4);
  });
  if (x.size() % 4 != 0) block(x.size() / 4, x.size() % 4);
}

}  // namespace lnfree::cpu
