// error: lnfree: a norm with `removal` needs statistics of its rows, and settings named gate and scale
#include <array>
#include <string_view>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/observer/no_observer.hpp>

using namespace lnfree;

/// Its gate has another name.
struct WithoutAGate {
  static constexpr std::string_view name = "without_a_gate";
  static constexpr Removal removal = Removal::taper;
  static constexpr std::array parameters{setting("door", 1.0), setting("scale", 1.0)};
  template <class T>
  static RowStatistics<T> statistics(T mean, T variance) {
    return LayerNorm::statistics(mean, variance);
  }
  template <class T>
  static T value(T x, RowStatistics<T> row, const T (&p)[2]) {
    return (x - row.shift) * (p[0] * row.scale + (T(1) - p[0]) * p[1]);
  }
};

Decoder<tiny, WithoutAGate, GELU, Reference<double>, NoObserver> model(1);
