// error: lnfree: width must be a multiple of heads
#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

using namespace lnfree;

constexpr DecoderConfig config{
    .layers = 1, .heads = 3, .width = 16, .ffn_width = 64, .context = 8, .vocab_size = 10};

Decoder<config, LayerNorm, GELU, Reference<double>, NoObserver> model(1);
