// error: lnfree: positions must be at least context, or 0 to mean context
#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

using namespace lnfree;

constexpr DecoderConfig config{
    .layers = 1, .heads = 2, .width = 16, .ffn_width = 64, .context = 8, .vocab_size = 10, .positions = 7};

Decoder<config, LayerNorm, GELU, Reference<double>, NoObserver> model(1);
