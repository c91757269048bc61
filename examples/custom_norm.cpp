/// A norm of one's own: LayerNorm without parameters, proved by finite differences and then trained with.
/// docs/adding-a-norm.md goes through this file.
#include <string_view>

#include <lnfree/model.hpp>

#include "prove_policy.hpp"

using namespace lnfree;

/// y = (x - mean) / sqrt(variance + 1e-5) with nothing to learn: OLMo's norm (Groeneveld et al., 2024).
struct NonParametricLayerNorm {
  static constexpr std::string_view name = "non_parametric_layer_norm";
  static constexpr bool has_gain = false;
  static constexpr bool has_bias = false;
  static constexpr double epsilon = 1e-5;

  template <class T>
  LNFREE_HOST_DEVICE static RowStatistics<T> statistics(T mean, T variance) {
    return {mean, T(1) / math::sqrt(variance + T(epsilon))};
  }

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, RowStatistics<T> row) {
    return (x - row.shift) * row.scale;
  }

  template <class T>
  LNFREE_HOST_DEVICE static T gradient(T d_y, T y, RowStatistics<T> row, T mean_d_y, T mean_d_y_y) {
    return row.scale * (d_y - mean_d_y - y * mean_d_y_y);
  }
};

int main() {
  using Exact = Decoder<clean(tiny), NonParametricLayerNorm, GELU, Reference<double>>;
  using Fast = Decoder<clean(small), NonParametricLayerNorm, GELU>;
  return gradients_are_right<Exact>() && learns<Fast>() ? 0 : 1;
}
