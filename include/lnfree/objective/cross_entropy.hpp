#pragma once

#include <string_view>

#include <lnfree/core/config.hpp>
#include <lnfree/nn/parameter.hpp>

namespace lnfree {

/// What is minimized: the mean cross-entropy of the targets, and nothing besides.
template <class Device>
struct CrossEntropy {
  static constexpr std::string_view name = "cross_entropy";

  /// It has no parameters.
  CrossEntropy(ParameterSet<Device>&, const DecoderConfig&) {}
};

}  // namespace lnfree
