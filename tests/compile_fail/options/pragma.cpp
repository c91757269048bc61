// error: lnfree computes wrong losses where #pragma GCC optimize allows fast math; remove it
#pragma GCC optimize("fast-math")
#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

lnfree::Decoder<lnfree::tiny, lnfree::LayerNorm, lnfree::GELU, lnfree::Reference<float>, lnfree::NoObserver>
    model(1);
