// error: lnfree: the norm must be Identity, or offer `template <class T> static T value(T x)`
#include <string_view>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

using namespace lnfree;

/// Computes in double only.
struct OfDoubles {
  static constexpr std::string_view name = "of_doubles";
  static double value(double x) { return 2 * x; }
};

Decoder<tiny, OfDoubles, GELU, Reference<double>, NoObserver> model(1);
