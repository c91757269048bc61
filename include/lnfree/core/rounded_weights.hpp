#pragma once

#include <cstdint>
#include <vector>

#include <lnfree/core/memory.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree {

/// Copies of a model's weights in the lower precision in which its device multiplies them. Most devices
/// multiply weights as they are stored and need no copies; a device that does has a specialization
/// (device/cuda/eight_bit_products.hpp).
template <class Device>
class RoundedWeights {
 public:
  /// The stored weights, (in, out) each.
  using Weights = std::vector<Matrix<const typename Device::Scalar>>;

  /// Reserves memory for products of up to `rows` rows with these weights.
  void plan(Arena&, const Weights&, Index /*rows*/) {}
  /// Call it after plan(): the same for the output matrix (V, C). Logits are products with its transpose.
  void plan_output_matrix(Arena&, Matrix<const typename Device::Scalar>, Index /*rows*/) {}
  /// Call it before a pass: rounds the weights if `version` differs from the last call's.
  void update(Device&, std::uint64_t /*version*/) {}
};

}  // namespace lnfree
