#pragma once

#include <cstdint>

#include <lnfree/core/random.hpp>

namespace lnfree {

/// Dropout of one pass: an element's fate is a function of (seed, draw, position); draw counts the passes of
/// a run.
struct Dropout {
  /// Share of the elements that become 0.
  double rate = 0;
  std::uint64_t seed = 0;
  /// Number of the pass: each draws anew.
  std::uint64_t draw = 0;

  /// The numbers of this pass.
  Philox random() const { return {seed, stream_of("dropout") + draw}; }
};

}  // namespace lnfree
