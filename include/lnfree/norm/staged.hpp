#pragma once

#include <string_view>

#include <lnfree/core/policies.hpp>
#include <lnfree/norm/tapered.hpp>

namespace lnfree {

/// A LayerNorm that is removed during training, one site after another and each in one step, as by
/// Heimersheim (2024) and Baroni et al. (2025): the same map as Tapered, with a gate that is 1 or 0. Values
/// have a separate norm from queries and keys, so that each can be removed by itself.
struct Staged : Tapered {
  static constexpr std::string_view name = "staged";
  static constexpr Removal removal = Removal::staged;  ///< How NormRemoval removes it.
};

}  // namespace lnfree
