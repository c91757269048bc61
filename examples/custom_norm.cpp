/// A custom norm with learnable parameters, checked by finite differences and then used in training.
/// docs/adding-a-norm.md explains this file.
#include <array>
#include <string_view>

#include <lnfree/model.hpp>

#include "prove_policy.hpp"

using namespace lnfree;

/// y = gain x (1 - share + share / rms(x)): a learned share of RMSNorm, which starts at 0.
struct PartialRMSNorm {
  static constexpr std::string_view name = "partial_rms_norm";
  static constexpr std::array parameters{per_channel("weight", 1.0), scalar("share", 0.0)};

  template <class T>
  LNFREE_HOST_DEVICE static RowStatistics<T> statistics(T mean, T variance) {
    return {T(0), T(1) / math::sqrt(variance + mean * mean + T(1e-6))};
  }

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, RowStatistics<T> row, const T (&p)[2]) {
    const auto& [gain, share] = p;
    return gain * x * (T(1) - share + share * row.scale);
  }
};

int main() {
  using Exact = Decoder<clean(tiny), PartialRMSNorm, GELU, Reference<double>>;
  using Fast = Decoder<clean(small), PartialRMSNorm, GELU>;
  return gradients_are_right<Exact>() && learns<Fast>() ? 0 : 1;
}
