#pragma once

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

/// What a norm keeps of each row: it maps x to (x - shift) scale, or whatever its policy makes of the two
/// numbers.
template <class T>
struct RowStatistics {
  T shift;
  T scale;
};

/// The learned parameters of a norm without row statistics, or their gradients; null where the policy has
/// none.
template <class T>
struct NormParameters {
  T* alpha = nullptr;  ///< One number.
  T* shift = nullptr;  ///< One number.
  T* gain = nullptr;   ///< One for each channel.
  T* bias = nullptr;   ///< One for each channel.
};

}  // namespace lnfree
