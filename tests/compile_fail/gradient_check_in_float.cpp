// error: lnfree: gradient_check needs a model in double, for example on Reference<double>
#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/observer/no_observer.hpp>
#include <lnfree/train/gradient_check.hpp>

using namespace lnfree;

double worst() {
  return gradient_check<Decoder<tiny, LayerNorm, GELU, Reference<float>, NoObserver>>().worst();
}
