// error: lnfree: the objective must offer name and a constructor from ParameterSet<Device>& and const
// DecoderConfig&
#include <string_view>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

using namespace lnfree;

template <class Device>
struct WithoutConstructor {
  static constexpr std::string_view name = "without_constructor";
};

Decoder<tiny, LayerNorm, GELU, Reference<double>, NoObserver, PreNorm, WithoutConstructor> model(1);
