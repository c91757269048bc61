#pragma once

#include <string_view>

namespace lnfree {

/// What an activation saves in the forward pass to compute its derivative in the backward pass.
enum class Saved {
  input,  ///< x: derivative(x).
  output  ///< y = value(x): derivative(y); saves one (B, T, 4 C) buffer per layer.
};

/// Which layers share the learnable parameter of an activation.
enum class Scope {
  per_layer,  ///< One for each layer.
  global      ///< One for the whole model.
};

/// Where in a model a norm is. `values` is a norm in front of the values alone, in a model with two norms for
/// its attention (norm/staged.hpp).
enum class NormSite { attention, feed_forward, final_norm, values };

/// How norms are removed during training (norm/tapered.hpp, norm/staged.hpp).
enum class Removal {
  taper,  ///< All norms together, gradually.
  staged  ///< One norm after another, each in one step.
};

/// What is added to the residual stream.
enum class StreamPart { embedding, attention, feed_forward };

/// The initial value of a norm's parameter: one for all norms, or one for each site.
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
    return site == NormSite::feed_forward ? feed_forward
           : site == NormSite::final_norm ? final_norm
                                          : attention;
  }
};

/// A parameter of a norm: one number for each channel, or one for all.
struct NormParameter {
  std::string_view name;  ///< In checkpoints, after the norm's: "weight" is ln_1.weight.
  InitialValue initial;   ///< Its value before training.
  bool is_per_channel;    ///< One number for each channel, or one for the norm.
  bool is_learned;        ///< Whether it has a gradient.
};
/// A learned number for each channel.
constexpr NormParameter per_channel(std::string_view name, InitialValue initial) {
  return {name, initial, true, true};
}
/// One learned number.
constexpr NormParameter scalar(std::string_view name, InitialValue initial) {
  return {name, initial, false, true};
}
/// One number that is not learned but set from outside during training, and saved in checkpoints.
constexpr NormParameter setting(std::string_view name, InitialValue initial) {
  return {name, initial, false, false};
}

/// Mean and variance of a row.
template <class T>
struct RowMoments {
  T mean;      ///< The mean over the channels.
  T variance;  ///< The mean squared deviation from it.
};

/// What a norm computes from the moments.
template <class T>
struct RowStatistics {
  T shift;  ///< The first number, the mean in a LayerNorm.
  T scale;  ///< The second, the inverse standard deviation in a LayerNorm.
};

/// What a device keeps of each row for the backward pass.
template <class T>
struct NormRow {
  RowMoments<T> moments;        ///< The row's mean and variance.
  RowStatistics<T> statistics;  ///< What the norm computed from them.
};

}  // namespace lnfree
