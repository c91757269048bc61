// error: lnfree: a norm with statistics() must offer `template <class T> static T value(T x, RowStatistics<T>
// row)`
#include <array>
#include <string_view>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

using namespace lnfree;

/// Its value leaves out the parameter that it declares.
struct WithoutItsParameter {
  static constexpr std::string_view name = "without_its_parameter";
  static constexpr std::array parameters{per_channel("weight", 1.0)};
  template <class T>
  static RowStatistics<T> statistics(T mean, T) {
    return {mean, T(1)};
  }
  template <class T>
  static T value(T x, RowStatistics<T> row) {
    return x - row.shift;
  }
};

Decoder<tiny, WithoutItsParameter, GELU, Reference<double>, NoObserver> model(1);
