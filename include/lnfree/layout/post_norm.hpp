#pragma once

#include <string_view>

#include <lnfree/core/policies.hpp>

namespace lnfree {

/// Norms after the sums, x = norm(x + attention(x)); x = norm(x + FFN(x)): the original transformer (Vaswani
/// et al., 2017).
struct PostNorm {
  static constexpr std::string_view name = "post_norm";

  static auto wire(auto& layout, auto x) {
    x = layout.norm("ln_1", NormSite::attention, layout.add(x, layout.attention(x)));
    return layout.norm("ln_2", NormSite::feed_forward, layout.add(x, layout.feed_forward(x)));
  }
};

}  // namespace lnfree
