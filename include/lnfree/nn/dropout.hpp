#pragma once

#include <cstdint>

#include <lnfree/core/random.hpp>

namespace lnfree {

/// Dropout of one pass. Whether an element is dropped is a function of (seed, draw, position), where draw
/// counts the passes of a run.
struct Dropout {
  /// Share of the elements that become 0.
  double rate = 0;
  std::uint64_t seed = 0;
  /// Number of the pass: each draws another mask.
  std::uint64_t draw = 0;

  /// The random numbers of this pass.
  Philox random() const { return {seed, stream_of("dropout") + draw}; }
};

}  // namespace lnfree
