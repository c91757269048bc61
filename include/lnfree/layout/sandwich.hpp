#pragma once

#include <string_view>

#include <lnfree/core/policies.hpp>

namespace lnfree {

/// Norms on both sides of each sublayer, x += norm(attention(norm(x))); x += norm(FFN(norm(x))) (Ding et
/// al., "CogView", 2021).
struct Sandwich {
  static constexpr std::string_view name = "sandwich";

  static auto wire(auto& layout, auto x) {
    const auto attended = layout.attention(layout.norm("ln_1", NormSite::attention, x));
    x = layout.add(x, layout.norm("ln_1_post", NormSite::attention, attended));
    const auto fed = layout.feed_forward(layout.norm("ln_2", NormSite::feed_forward, x));
    return layout.add(x, layout.norm("ln_2_post", NormSite::feed_forward, fed));
  }
};

}  // namespace lnfree
