#pragma once

#include <ratio>
#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/policies.hpp>

namespace lnfree {

/// x where x >= 0, slope x elsewhere, with a slope fixed at compile time, for example LeakyReLU<std::ratio<1,
/// 100>>.
template <class Slope = std::ratio<1, 100>>
struct LeakyReLU {
  static constexpr std::string_view name = "leaky_relu";
  static constexpr Saved saved = Saved::input;
  static constexpr double slope = double(Slope::num) / double(Slope::den);

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x) {
    return x >= T(0) ? x : T(slope) * x;
  }

  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T x) {
    return x >= T(0) ? T(1) : T(slope);
  }
};

}  // namespace lnfree
