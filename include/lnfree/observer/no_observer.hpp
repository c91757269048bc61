#pragma once

namespace lnfree {

/// Observes nothing and costs nothing: the softmax is compiled without the entropy.
struct NoObserver {
  static constexpr bool observes_entropy = false;
  static constexpr bool observes_stream = false;

  NoObserver(int /*layers*/, int /*heads*/) {}
  void reset() {}
};

}  // namespace lnfree
