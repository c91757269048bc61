// error: lnfree: the layout must offer name and `static auto wire(auto& layout, auto x)`
#include <string_view>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

using namespace lnfree;

struct WithoutWire {
  static constexpr std::string_view name = "without_wire";
};

Decoder<tiny, LayerNorm, GELU, Reference<double>, NoObserver, WithoutWire> model(1);
