#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include <lnfree/core/tensor.hpp>

namespace lnfree {

/// The quantities that matter for quantized and private inference, for every layer, over all passes since the
/// last reset():
///
///   rms       root mean square of the residual stream x (rows, C) after the layer
///   kurtosis  mean_j s_j^4 / (mean_j s_j^2)^2 with s_j the root mean square of channel j over the rows:
///             1 if all channels are alike, C if one channel holds everything (He et al., "Understanding and
///             Minimising Outlier Features in Neural Network Training", 2024)
///   zeros     share of the hidden layer's elements that are exactly 0 after the activation
class OutlierObserver {
 public:
  static constexpr std::string_view name = "stream";
  static constexpr bool observes_stream = true;

  /// For a model of that many layers.
  OutlierObserver(int layers, int /*heads*/) : of_layer_(static_cast<std::size_t>(layers)) {}

  /// Clears what was gathered.
  void reset() {
    for (Layer& layer : of_layer_) {
      std::fill(layer.squares.begin(), layer.squares.end(), 0.0);
      layer.rows = layer.hidden = layer.zeros = 0;
    }
  }

  /// Adds one layer of a pass: the sums over `rows` rows of each channel's squares (C), and how many of the
  /// `hidden` elements of its hidden layer are 0.
  template <class T>
  void record_layer(int layer, Index rows, const std::vector<T>& column_squares, Index hidden, Index zeros) {
    Layer& at = of_layer_[static_cast<std::size_t>(layer)];
    at.squares.resize(column_squares.size());
    for (std::size_t j = 0; j < column_squares.size(); ++j)
      at.squares[j] += static_cast<double>(column_squares[j]);
    at.rows += rows;
    at.hidden += hidden;
    at.zeros += zeros;
  }

  /// Calls f(first, count) for each array of sums over passes.
  template <class F>
  void for_each_sum(const F& f) {
    for (Layer& layer : of_layer_) {
      f(layer.squares.data(), layer.squares.size());
      f(&layer.rows, std::size_t{1});
      f(&layer.hidden, std::size_t{1});
      f(&layer.zeros, std::size_t{1});
    }
  }

  /// Reports rms, kurtosis and zeros, each by layer.
  template <class F>
  void report(const F& f) const {
    f("rms", rms());
    f("kurtosis", kurtosis());
    f("zeros", zeros());
  }

  /// The root mean square of the stream, by layer; NaN before the first pass.
  std::vector<double> rms() const {
    return for_layers([](const Layer& layer) { return std::sqrt(layer.mean_square(1)); });
  }
  /// The kurtosis of the stream's channels, by layer.
  std::vector<double> kurtosis() const {
    return for_layers(
        [](const Layer& layer) { return layer.mean_square(2) / std::pow(layer.mean_square(1), 2); });
  }
  /// The share of hidden units that are 0, by layer.
  std::vector<double> zeros() const {
    return for_layers([](const Layer& layer) {
      return static_cast<double>(layer.zeros) / static_cast<double>(layer.hidden);
    });
  }

 private:
  struct Layer {
    std::vector<double> squares;  // of each channel, summed over the rows
    Index rows = 0, hidden = 0, zeros = 0;

    /// Mean over the channels of (s_j^2)^power.
    double mean_square(int power) const {
      double sum = 0;
      for (const double square : squares) sum += std::pow(square / static_cast<double>(rows), power);
      return sum / static_cast<double>(squares.size());
    }
  };

  template <class F>
  std::vector<double> for_layers(const F& f) const {
    std::vector<double> values;
    for (const Layer& layer : of_layer_) {
      values.push_back(layer.rows == 0 ? std::numeric_limits<double>::quiet_NaN() : f(layer));
    }
    return values;
  }

  std::vector<Layer> of_layer_;
};

}  // namespace lnfree
