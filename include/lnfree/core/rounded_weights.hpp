#pragma once

#include <cstdint>
#include <vector>

#include <lnfree/core/memory.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree {

/// A model's weights once more, with fewer digits, as its device multiplies them. Most devices multiply
/// weights as they are stored; one that does not has a specialization (device/cuda/fp8.hpp).
template <class Device>
class RoundedWeights {
 public:
  /// Weights as they are stored, (in, out) each.
  using Weights = std::vector<Matrix<const typename Device::Scalar>>;

  /// Reserves memory for products of up to `rows` rows with these weights.
  void plan(Arena&, const Weights&, Index /*rows*/) {}
  /// To be called before a pass: rounds the weights if `version` is another one than the last time.
  void update(Device&, std::uint64_t /*version*/) {}
};

}  // namespace lnfree
