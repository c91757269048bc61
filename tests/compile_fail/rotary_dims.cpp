// error: lnfree: rotary_dims must be even and at most width / heads, or 0 for learned positions
#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

using namespace lnfree;

constexpr DecoderConfig odd = [] {
  DecoderConfig config = tiny;
  config.rotary_dims = 3;
  return config;
}();

Decoder<odd, LayerNorm, GELU, Reference<double>, NoObserver> model(1);
