#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/policies.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree {

/// Whether an observer has sums over passes and hands them to a function.
template <class O, class F>
concept HandsOutSums =
    !Observes<O>::anything || requires(O& observer, const F& f) { observer.for_each_sum(f); };

/// Several observers as one, for example Observers<EntropyObserver, OutlierObserver>: each records its own
/// data, and the members of each can be called on the whole. Parts can be switched on and off at run time.
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
  static constexpr bool observes_attention = (Observes<Parts>::attention || ...);
  static constexpr bool observes_stream_parts = (Observes<Parts>::stream_parts || ...);

  Observers(int layers, int heads) : Parts(layers, heads)... { on_.fill(true); }

  /// Clears what was recorded.
  void reset() { (Parts::reset(), ...); }

  /// Switches a part on or off. A part that is off records and reports nothing, but the device still computes
  /// its data. All are on at first.
  template <class Part>
  void enable(bool on) {
    on_[index_of<Part>()] = on;
  }
  /// Whether a part is switched on.
  template <class Part>
  bool is_enabled() const {
    return on_[index_of<Part>()];
  }

  /// Calls f(part) for each part that is on.
  template <class F>
  void for_each_part(const F& f) const {
    const auto to_one = [&]<class Part>(const Part& part) {
      if (is_enabled<Part>()) f(part);
    };
    (to_one(static_cast<const Parts&>(*this)), ...);
  }

  /// Calls f(first, count) for each array of sums over passes of the parts that are on.
  template <class F>
  requires(HandsOutSums<Parts, F> && ...)
  void for_each_sum(const F& f) {
    const auto of_one = [&]<class Part>(Part& part) {
      if constexpr (Observes<Part>::anything) {
        if (is_enabled<Part>()) part.for_each_sum(f);
      }
    };
    (of_one(static_cast<Parts&>(*this)), ...);
  }

  /// For each part that asks for entropies.
  template <class T>
  void record(BatchShape shape, const T* entropy_sums, const std::int32_t* finite_rows) {
    notify<Observes<Parts>::entropy...>([&](auto& part) { part.record(shape, entropy_sums, finite_rows); });
  }
  /// For each part that asks for the stream's squares.
  template <class T>
  void record_layer(int layer, Index rows, const std::vector<T>& column_squares, Index hidden, Index zeros) {
    notify<Observes<Parts>::stream...>(
        [&](auto& part) { part.record_layer(layer, rows, column_squares, hidden, zeros); });
  }
  /// For each part that asks for scores.
  template <class T>
  void record_scores(BatchShape shape, const T* max_scores) {
    notify<Observes<Parts>::scores...>([&](auto& part) { part.record_scores(shape, max_scores); });
  }
  /// For each part that asks for the stream.
  template <class T>
  void record_stream(int layer, BatchShape shape, Matrix<const T> x) {
    notify<Observes<Parts>::stream_values...>([&](auto& part) { part.record_stream(layer, shape, x); });
  }
  /// For each part that asks for hidden layers.
  template <class T>
  void record_hidden(int layer, BatchShape shape, Matrix<const T> hidden) {
    notify<Observes<Parts>::hidden_values...>([&](auto& part) { part.record_hidden(layer, shape, hidden); });
  }
  /// For each part that asks for losses.
  template <class T>
  void record_losses(BatchShape shape, const T* losses, const std::int32_t* targets) {
    notify<Observes<Parts>::losses...>([&](auto& part) { part.record_losses(shape, losses, targets); });
  }
  /// For each part that asks for logits.
  template <class T>
  void record_logits(Index first_row, Matrix<const T> logits) {
    notify<Observes<Parts>::logits...>([&](auto& part) { part.record_logits(first_row, logits); });
  }
  /// For each part that asks for queries, keys and values.
  template <class T>
  void record_attention(int layer, AttentionShape shape, Matrix<const T> qkv, const T* log_sums) {
    notify<Observes<Parts>::attention...>(
        [&](auto& part) { part.record_attention(layer, shape, qkv, log_sums); });
  }
  /// For each part that asks for the stream after each sublayer.
  template <class T>
  void record_part(int layer, StreamPart added, BatchShape shape, Matrix<const T> x) {
    notify<Observes<Parts>::stream_parts...>([&](auto& part) { part.record_part(layer, added, shape, x); });
  }

 private:
  template <class Part>
  static constexpr std::size_t index_of() {
    static_assert((std::is_same_v<Part, Parts> || ...), "lnfree: this observer is not among the Observers");
    std::size_t index = 0;
    bool found = false;
    ((found = found || std::is_same_v<Part, Parts>, index += found ? 0 : 1), ...);
    return index;
  }

  /// Calls f(part) for the parts that ask for it and are on.
  template <bool... Asks, class F>
  void notify(const F& f) {
    const auto to_one = [&]<bool asks, class Part>(std::bool_constant<asks>, Part& part) {
      if constexpr (asks) {
        if (is_enabled<Part>()) f(part);
      }
    };
    (to_one(std::bool_constant<Asks>(), static_cast<Parts&>(*this)), ...);
  }

  std::array<bool, sizeof...(Parts)> on_;
};

}  // namespace lnfree
