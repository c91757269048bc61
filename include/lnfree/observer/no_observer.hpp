#pragma once

namespace lnfree {

/// Observes nothing, at no cost: the softmax is compiled without the entropy.
struct NoObserver {
  /// For any model.
  NoObserver(int /*layers*/, int /*heads*/) {}
  /// Does nothing.
  void reset() {}
};

}  // namespace lnfree
