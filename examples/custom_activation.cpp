/// An activation of one's own: the squared ReLU, proved by finite differences and then trained with.
/// docs/adding-an-activation.md goes through this file.
#include <string_view>

#include <lnfree/model.hpp>

#include "prove_policy.hpp"

using namespace lnfree;

/// max(0, x)^2 (So et al., "Primer", 2021).
struct SquaredReLU {
  static constexpr std::string_view name = "squared_relu";
  static constexpr Saved saved = Saved::input;

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x) {
    return x < T(0) ? T(0) : x * x;
  }

  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T x) {
    return x < T(0) ? T(0) : T(2) * x;
  }
};

int main() {
  using Exact = Decoder<tiny, Identity, SquaredReLU, Reference<double>>;
  using Fast = Decoder<small, Identity, SquaredReLU>;
  return gradients_are_right<Exact>() && learns<Fast>() ? 0 : 1;
}
