// error: lnfree: the device has no norm_forward and norm_backward for this norm
#include <cstddef>

#include <lnfree/nn/normalization.hpp>
#include <lnfree/norm/layer_norm.hpp>

using namespace lnfree;

struct NoPrimitives {
  using Scalar = float;
  using Accumulator = float;
};

constexpr std::size_t size = sizeof(Normalization<LayerNorm, NoPrimitives>);
