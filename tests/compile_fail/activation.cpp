// error: lnfree: the activation lacks `template <class T> static T value(T x)` or `derivative(T saved)`
#include <string_view>

#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

using namespace lnfree;

struct NoDerivative {
  static constexpr std::string_view name = "no_derivative";
  static constexpr Saved saved = Saved::input;
  template <class T>
  static T value(T x) {
    return x * x;
  }
};

Decoder<tiny, LayerNorm, NoDerivative, Reference<double>, NoObserver> model(1);
