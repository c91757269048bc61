#pragma once

#include <lnfree/core/config.hpp>

namespace lnfree::test {

/// Biases everywhere, and an untied output matrix.
inline constexpr DecoderConfig untied_all_biases = [] {
  DecoderConfig config = tiny;
  config.biases = Biases::all;
  config.tied_output = false;
  return config;
}();

/// Pythia's layout, with only the token table before the blocks.
inline constexpr DecoderConfig parallel_rotary = [] {
  DecoderConfig config = untied_all_biases;
  config.rotary_dims = 4;
  config.parallel_residual = true;
  return config;
}();

}  // namespace lnfree::test
