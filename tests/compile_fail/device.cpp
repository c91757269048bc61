// error: lnfree: the device lacks a primitive of device/primitives.hpp
#include <lnfree/activation/gelu.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

using namespace lnfree;

struct NoPrimitives {
  using Scalar = float;
  using Accumulator = float;
};

Decoder<tiny, LayerNorm, GELU, NoPrimitives, NoObserver> model(1);
