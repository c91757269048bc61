// error: lnfree: the observer must offer reset() and a constructor
#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>

using namespace lnfree;

struct Blind {
  Blind(int, int) {}
};

Decoder<tiny, LayerNorm, GELU, Reference<double>, Blind> model(1);
