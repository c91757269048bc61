#pragma once

#include <lnfree/core/config.hpp>

namespace lnfree::test {

/// Biases everywhere, and an output matrix of its own.
inline constexpr DecoderConfig untied_all_biases = [] {
  DecoderConfig config = tiny;
  config.biases = Biases::all;
  config.tied_output = false;
  return config;
}();

/// Pythia's layout: nothing in front of the blocks but the token table.
inline constexpr DecoderConfig parallel_rotary = [] {
  DecoderConfig config = untied_all_biases;
  config.rotary_dims = 4;
  config.parallel_residual = true;
  return config;
}();

}  // namespace lnfree::test
