#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include <lnfree/core/concepts.hpp>

namespace lnfree {

/// One activation in the first `Count` layers and another in the rest, for example Layerwise<ReLU, 4, GELU>.
template <class FirstLayers, int Count, class OtherLayers>
struct Layerwise {
  using First = FirstLayers;
  using Rest = OtherLayers;
  static constexpr int count = Count;

 private:
  /// "first*count+rest", so that the name tells one architecture from another.
  static constexpr auto text = [] {
    std::array<char, First::name.size() + Rest::name.size() + 13> text{};
    std::size_t size = 0;
    for (const char c : First::name) text[size++] = c;
    text[size++] = '*';
    int power = 1;
    while (Count / power >= 10) power *= 10;
    for (; power > 0; power /= 10) text[size++] = static_cast<char>('0' + Count / power % 10);
    text[size++] = '+';
    for (const char c : Rest::name) text[size++] = c;
    return text;
  }();

 public:
  static constexpr std::string_view name{text.data()};
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
