#pragma once

#include <array>
#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/policies.hpp>
#include <lnfree/norm/layer_norm.hpp>

namespace lnfree {

/// A LayerNorm that is removed during training, as in TaperNorm (2026):
///
///   y = (g / sqrt(variance + 1e-5) + (1 - g) c) (x - mean) gain + g bias
///
/// with a gate g that NormRemoval lowers from 1 to 0, and a scale c that it measures while g is 1. At g = 1
/// this is LayerNorm; at g = 0 it is a linear map, which fold_norms() multiplies into the next matrix. The
/// bias vanishes with the gate, since the next matrix may have no bias to absorb it.
struct Tapered {
  static constexpr std::string_view name = "tapered";
  static constexpr Removal removal = Removal::taper;  ///< How NormRemoval removes it.
  static constexpr std::array parameters{per_channel("weight", 1.0), per_channel("bias", 0.0),
                                         setting("gate", 1.0), setting("scale", 1.0)};

  template <class T>
  LNFREE_HOST_DEVICE static RowStatistics<T> statistics(T mean, T variance) {
    return LayerNorm::statistics(mean, variance);
  }

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, RowStatistics<T> row, const T (&p)[4]) {
    const auto& [gain, bias, gate, scale] = p;
    return (x - row.shift) * (gate * row.scale + (T(1) - gate) * scale) * gain + gate * bias;
  }
};

}  // namespace lnfree
