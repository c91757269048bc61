#pragma once

#include <string_view>

namespace lnfree {

/// What an activation keeps of the forward pass to tell its derivative in the backward pass.
enum class Saved {
  input,  ///< x: derivative(x).
  output  ///< y = value(x): derivative(y); one buffer of (B, T, 4 C) less per layer.
};

/// Who shares the learnable parameter of an activation.
enum class Scope {
  per_layer,  ///< One for each layer.
  global      ///< One for the whole model.
};

/// Where in a model a norm stands.
enum class NormSite { attention, feed_forward, final_norm };

/// What is added to the residual stream.
enum class StreamPart { embedding, attention, feed_forward };

/// The number that a norm's parameter starts from: one for all norms, or one for each site.
struct InitialValue {
  /// The value at each kind of site.
  double attention, feed_forward, final_norm;

  /// The same value at every site.
  constexpr InitialValue(double everywhere)
      : attention(everywhere), feed_forward(everywhere), final_norm(everywhere) {}
  /// A value for each kind of site.
  constexpr InitialValue(double of_attention, double of_feed_forward, double of_final_norm)
      : attention(of_attention), feed_forward(of_feed_forward), final_norm(of_final_norm) {}

  /// The value at `site`.
  constexpr double at(NormSite site) const {
    return site == NormSite::attention      ? attention
           : site == NormSite::feed_forward ? feed_forward
                                            : final_norm;
  }
};

/// A learnable parameter of a norm: one number for each channel, or one for all.
struct NormParameter {
  std::string_view name;  ///< In checkpoints, after the norm's: "weight" is ln_1.weight.
  InitialValue initial;   ///< Its value before training.
  bool is_per_channel;    ///< Whether there is one for each channel, or one for the norm.
};
/// A learned number for each channel.
constexpr NormParameter per_channel(std::string_view name, InitialValue initial) {
  return {name, initial, true};
}
/// One learned number.
constexpr NormParameter scalar(std::string_view name, InitialValue initial) {
  return {name, initial, false};
}

/// Mean and variance of a row.
template <class T>
struct RowMoments {
  T mean;      ///< The mean over the channels.
  T variance;  ///< The mean square of the differences to it.
};

/// What a norm makes of them.
template <class T>
struct RowStatistics {
  T shift;  ///< The first number, the mean in a LayerNorm.
  T scale;  ///< The second, the inverse standard deviation in a LayerNorm.
};

/// What a device keeps of each row for the backward pass.
template <class T>
struct NormRow {
  RowMoments<T> moments;        ///< The row's mean and variance.
  RowStatistics<T> statistics;  ///< What the norm made of them.
};

}  // namespace lnfree
