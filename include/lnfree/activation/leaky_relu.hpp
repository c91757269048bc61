#pragma once

#include <ratio>
#include <string_view>

#include <lnfree/core/fixed_text.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/core/policies.hpp>

namespace lnfree {

/// x for x >= 0 and slope x for x < 0, with a slope fixed at compile time, for example
/// LeakyReLU<std::ratio<1, 100>>.
template <class Slope = std::ratio<1, 100>>
struct LeakyReLU {
 private:
  static constexpr auto text = FixedText<64>() << "leaky_relu(" << Slope::num << "/" << Slope::den << ")";

 public:
  static constexpr std::string_view name = text.view();
  static constexpr Saved saved = Saved::input;
  /// The slope of negative values.
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
