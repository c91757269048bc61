#pragma once

#include <string_view>

#include <lnfree/core/policies.hpp>

namespace lnfree {

/// Norms in front of the sublayers, x += attention(norm(x)); x += FFN(norm(x)): Pre-LN, the paper's
/// equation 1.
struct PreNorm {
  static constexpr std::string_view name = "pre_norm";

  static auto wire(auto& layout, auto x) {
    x = layout.add(x, layout.attention(layout.norm("ln_1", NormSite::attention, x)));
    return layout.add(x, layout.feed_forward(layout.norm("ln_2", NormSite::feed_forward, x)));
  }
};

}  // namespace lnfree
