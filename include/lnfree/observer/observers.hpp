#pragma once

#include <cstdint>
#include <vector>

#include <lnfree/core/tensor.hpp>

namespace lnfree {

/// Several observers as one, for example Observers<EntropyObserver, OutlierObserver>: each records what it
/// observes, and what each has to say is asked of the whole.
template <class... Parts>
class Observers : public Parts... {
 public:
  static constexpr bool observes_entropy = (Parts::observes_entropy || ...);
  static constexpr bool observes_stream = (Parts::observes_stream || ...);

  Observers(int layers, int heads) : Parts(layers, heads)... {}

  void reset() { (Parts::reset(), ...); }

  template <class T>
  void record(BatchShape shape, const T* entropy_sums, const std::int32_t* finite_rows) {
    (
        [&] {
          if constexpr (Parts::observes_entropy) Parts::record(shape, entropy_sums, finite_rows);
        }(),
        ...);
  }

  template <class T>
  void record_layer(int layer, Index rows, const std::vector<T>& column_squares, Index hidden, Index zeros) {
    (
        [&] {
          if constexpr (Parts::observes_stream)
            Parts::record_layer(layer, rows, column_squares, hidden, zeros);
        }(),
        ...);
  }
};

}  // namespace lnfree
