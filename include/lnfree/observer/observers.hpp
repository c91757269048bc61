#pragma once

#include <cstdint>
#include <vector>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree {

/// Several observers as one, for example Observers<EntropyObserver, OutlierObserver>: each records what it
/// observes, and what each has to say is asked of the whole.
template <class... Parts>
class Observers : public Parts... {
 public:
  static constexpr bool observes_entropy = (Observes<Parts>::entropy || ...);
  static constexpr bool observes_stream = (Observes<Parts>::stream || ...);
  static constexpr bool observes_scores = (Observes<Parts>::scores || ...);
  static constexpr bool observes_stream_values = (Observes<Parts>::stream_values || ...);
  static constexpr bool observes_hidden_values = (Observes<Parts>::hidden_values || ...);
  static constexpr bool observes_losses = (Observes<Parts>::losses || ...);
  static constexpr bool observes_logits = (Observes<Parts>::logits || ...);

  Observers(int layers, int heads) : Parts(layers, heads)... {}

  void reset() { (Parts::reset(), ...); }

  /// Calls f(part) for each.
  template <class F>
  void for_each_part(const F& f) const {
    (f(static_cast<const Parts&>(*this)), ...);
  }

  template <class T>
  void record(BatchShape shape, const T* entropy_sums, const std::int32_t* finite_rows) {
    const auto tell = [&]<class P>(P& part) {
      if constexpr (Observes<P>::entropy) part.record(shape, entropy_sums, finite_rows);
    };
    (tell(static_cast<Parts&>(*this)), ...);
  }
  template <class T>
  void record_layer(int layer, Index rows, const std::vector<T>& column_squares, Index hidden, Index zeros) {
    const auto tell = [&]<class P>(P& part) {
      if constexpr (Observes<P>::stream) part.record_layer(layer, rows, column_squares, hidden, zeros);
    };
    (tell(static_cast<Parts&>(*this)), ...);
  }
  template <class T>
  void record_scores(BatchShape shape, const T* max_scores) {
    const auto tell = [&]<class P>(P& part) {
      if constexpr (Observes<P>::scores) part.record_scores(shape, max_scores);
    };
    (tell(static_cast<Parts&>(*this)), ...);
  }
  template <class T>
  void record_stream(int layer, BatchShape shape, Matrix<const T> x) {
    const auto tell = [&]<class P>(P& part) {
      if constexpr (Observes<P>::stream_values) part.record_stream(layer, shape, x);
    };
    (tell(static_cast<Parts&>(*this)), ...);
  }
  template <class T>
  void record_hidden(int layer, BatchShape shape, Matrix<const T> hidden) {
    const auto tell = [&]<class P>(P& part) {
      if constexpr (Observes<P>::hidden_values) part.record_hidden(layer, shape, hidden);
    };
    (tell(static_cast<Parts&>(*this)), ...);
  }
  template <class T>
  void record_losses(BatchShape shape, const T* losses, const std::int32_t* targets) {
    const auto tell = [&]<class P>(P& part) {
      if constexpr (Observes<P>::losses) part.record_losses(shape, losses, targets);
    };
    (tell(static_cast<Parts&>(*this)), ...);
  }
  template <class T>
  void record_logits(Index first_row, Matrix<const T> logits) {
    const auto tell = [&]<class P>(P& part) {
      if constexpr (Observes<P>::logits) part.record_logits(first_row, logits);
    };
    (tell(static_cast<Parts&>(*this)), ...);
  }
};

}  // namespace lnfree
