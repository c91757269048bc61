#pragma once

#include <cmath>

#include <lnfree/nn/parameter.hpp>

namespace lnfree {

/// The Euclidean norm of all gradients of a model together.
template <class Device>
double gradient_norm(Device& device, const ParameterSet<Device>& parameters) {
  return std::sqrt(sum_of_squares(device, parameters.gradients(), parameters.size()));
}

/// What torch's clip_grad_norm_ multiplies every gradient by: min(1, max_norm / (norm + 1e-6)); 1 when
/// max_norm is 0, which means no clipping. A norm that is not a number gives that back.
inline double clip_factor(double norm, double max_norm) {
  if (max_norm == 0) return 1;
  const double factor = max_norm / (norm + 1e-6);
  return factor > 1 ? 1 : factor;
}

}  // namespace lnfree
