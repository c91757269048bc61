// error: lnfree: the norm must be Identity, or offer name, has_gain, has_bias, statistics, value and gradient
#include <string_view>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/backend/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

using namespace lnfree;

struct NoGradient {
  static constexpr std::string_view name = "no_gradient";
  static constexpr bool has_gain = false;
  static constexpr bool has_bias = false;
  template <class T>
  static RowStatistics<T> statistics(T mean, T) {
    return {mean, T(1)};
  }
  template <class T>
  static T value(T x, RowStatistics<T> row) {
    return x - row.shift;
  }
};

Decoder<tiny, NoGradient, GELU, Reference<double>, NoObserver> model(1);
