#pragma once

#include <string_view>

#include <lnfree/core/policies.hpp>

namespace lnfree {

/// Both sublayers read the same x: x + attention(norm_1(x)) + FFN(norm_2(x)), as in GPT-NeoX.
struct Parallel {
  static constexpr std::string_view name = "parallel";

  static auto wire(auto& layout, auto x) {
    const auto attended = layout.add(x, layout.attention(layout.norm("ln_1", NormSite::attention, x)));
    return layout.add(attended, layout.feed_forward(layout.norm("ln_2", NormSite::feed_forward, x)));
  }
};

}  // namespace lnfree
