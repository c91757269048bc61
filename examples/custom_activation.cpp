/// A custom activation: a polynomial, checked by finite differences and then used in training.
/// docs/adding-an-activation.md explains this file.
#include <string_view>

#include <lnfree/model.hpp>

#include "prove_policy.hpp"

using namespace lnfree;

/// x^2 / 8 + x / 4 + 1 / 2: a substitute for GELU under encryption, where only polynomials are cheap (Li et
/// al., "MPCFormer", 2023).
struct Quad {
  static constexpr std::string_view name = "quad";
  static constexpr Saved saved = Saved::input;

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x) {
    return T(0.125) * x * x + T(0.25) * x + T(0.5);
  }

  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T x) {
    return T(0.25) * x + T(0.25);
  }
};

int main() {
  using Exact = Decoder<tiny, Identity, Quad, Reference<double>>;
  using Fast = Decoder<small, Identity, Quad>;
  return gradients_are_right<Exact>() && learns<Fast>() ? 0 : 1;
}
