#pragma once

#include <cstdint>

#include <lnfree/core/random.hpp>

namespace lnfree {

/// Dropout of one pass: an element's fate is a function of (seed, draw, position); draw counts the passes of
/// a run.
struct Dropout {
  double rate = 0;
  std::uint64_t seed = 0;
  std::uint64_t draw = 0;

  Philox random() const { return {seed, stream_of("dropout") + draw}; }
};

}  // namespace lnfree
