// error: lnfree: the device has no activation_forward and activation_backward for this activation
#include <cstddef>

#include <lnfree/activation/relu.hpp>
#include <lnfree/nn/activation_layer.hpp>

using namespace lnfree;

struct NoPrimitives {
  using Scalar = float;
  using Accumulator = float;
};

constexpr std::size_t size = sizeof(ActivationOf<ReLU, NoPrimitives>);
