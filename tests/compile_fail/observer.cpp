// error: lnfree: the observer must offer observes_entropy
#include <lnfree/activation/gelu.hpp>
#include <lnfree/backend/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>

using namespace lnfree;

struct Blind {
  Blind(int, int) {}
};

Decoder<tiny, LayerNorm, GELU, Reference<double>, Blind> model(1);
