#pragma once

#include <string_view>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/fixed_text.hpp>

namespace lnfree {

/// One activation in the first `Count` layers and another in the rest, for example Layerwise<ReLU, 4, GELU>.
template <class FirstLayers, int Count, class OtherLayers>
struct Layerwise {
  using First = FirstLayers;           ///< The activation of the first layers.
  using Rest = OtherLayers;            ///< The activation of all others.
  static constexpr int count = Count;  ///< How many layers have First.

 private:
  static constexpr auto text = FixedText<First::name.size() + Rest::name.size() + 12>()
                               << First::name << "*" << count << "+" << Rest::name;

 public:
  static constexpr std::string_view name = text.view();
};

/// Calls f with the activation that A has in a layer.
template <ActivationOfLayers A, class F>
decltype(auto) with_activation([[maybe_unused]] int layer, F&& f) {
  if constexpr (Activation<A>) {
    return f(A{});
  } else {
    return layer < A::count ? f(typename A::First{}) : f(typename A::Rest{});
  }
}

}  // namespace lnfree
