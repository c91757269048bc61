#pragma once

#include <string_view>

namespace lnfree {

/// No normalization: the sublayer reads the residual stream directly. Nothing is computed, copied or saved.
struct Identity {
  static constexpr std::string_view name = "identity";
};

}  // namespace lnfree
