// error: lnfree: layers, heads, width, ffn_width, context and vocab_size must all be positive
#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

using namespace lnfree;

constexpr DecoderConfig no_vocabulary{.layers = 1, .heads = 2, .width = 16, .ffn_width = 64, .context = 8};

Decoder<no_vocabulary, LayerNorm, GELU, Reference<double>, NoObserver> model(1);
