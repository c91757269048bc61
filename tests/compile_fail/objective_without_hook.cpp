// error: lnfree: the objective offers none of on_entropies, on_hidden, on_stream, on_state and on_logits
#include <string_view>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

using namespace lnfree;

/// Its one member lacks the layer.
template <class Device>
struct Misspelled {
  using Scalar = typename Device::Scalar;
  static constexpr std::string_view name = "misspelled";
  Misspelled(ParameterSet<Device>&, const DecoderConfig&) {}
  double on_hidden(Device&, const TrainingPass&, Matrix<const Scalar>, Matrix<Scalar>) { return 0; }
};

Decoder<tiny, LayerNorm, GELU, Reference<double>, NoObserver, PreNorm, Misspelled> model(1);
