// error: lnfree: an observer of entropies must offer record(shape, entropy_sums, finite_rows)
#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>

using namespace lnfree;

struct Deaf {
  static constexpr bool observes_entropy = true;
  static constexpr bool observes_stream = false;
  Deaf(int, int) {}
  void reset() {}
};

Decoder<tiny, LayerNorm, GELU, Reference<double>, Deaf> model(1);
