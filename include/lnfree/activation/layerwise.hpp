#pragma once

#include <string_view>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/fixed_text.hpp>

namespace lnfree {

/// One activation in the first `Count` layers and another in the rest, for example Layerwise<ReLU, 4, GELU>;
/// with `OtherCount`, the other in that many layers, and then the pattern repeats: Layerwise<ReLU, 1, GELU,
/// 1> alternates.
template <class FirstLayers, int Count, class OtherLayers, int OtherCount = 0>
struct Layerwise {
  static_assert(Count >= 0 && OtherCount >= 0, "lnfree: the counts of a Layerwise must not be negative");

  using First = FirstLayers;  ///< The activation of the first layers.
  using Rest = OtherLayers;   ///< The activation of all others.

  /// Whether a layer, counted from 0, has First.
  static constexpr bool has_first(int layer) {
    return (OtherCount > 0 ? layer % (Count + OtherCount) : layer) < Count;
  }

 private:
  static constexpr auto text = [] {
    auto result = FixedText<First::name.size() + Rest::name.size() + 24>()
                  << First::name << "*" << Count << "+" << Rest::name;
    if (OtherCount > 0) result << "*" << OtherCount;
    return result;
  }();

 public:
  /// "relu*4+gelu", or "relu*1+gelu*1" if the pattern repeats.
  static constexpr std::string_view name = text.view();
};

/// Calls f with A's activation in a layer.
template <ActivationOfLayers A, class F>
decltype(auto) with_activation([[maybe_unused]] int layer, F&& f) {
  if constexpr (Activation<A>) {
    return f(A{});
  } else {
    return A::has_first(layer) ? f(typename A::First{}) : f(typename A::Rest{});
  }
}

}  // namespace lnfree
