#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <string_view>
#include <vector>

#include <lnfree/core/tensor.hpp>

namespace lnfree {

/// The Shannon entropy of every attention head, in nats (the paper's equation 8):
///
///   E(l, h) = mean over sequences and queries i of -sum_j a_ij ln a_ij
///
/// gathered over every pass since the last reset(). A query whose scores are not all finite has no entropy:
/// it is counted in nonfinite_rows() and left out of the mean, so that a diverged head never looks like a
/// collapsed one.
class EntropyObserver {
 public:
  static constexpr std::string_view name = "entropy";
  static constexpr bool observes_entropy = true;

  EntropyObserver(int layers, int heads) : layers_(layers), heads_(heads) { reset(); }

  /// Clears what was gathered.
  void reset() {
    sums_.assign(static_cast<std::size_t>(Index{layers_} * heads_), 0.0);
    finite_rows_.assign(sums_.size(), 0);
    rows_ = 0;
  }

  /// Adds one pass: for each (l, b, h) the sum of the entropies of its finite rows, (L, B, H), and their
  /// number.
  template <class T>
  void record(BatchShape shape, const T* entropy_sums, const std::int32_t* finite_rows) {
    for (int l = 0; l < layers_; ++l) {
      double* const sums = sums_.data() + Index{l} * heads_;
      std::int64_t* const finite = finite_rows_.data() + Index{l} * heads_;
      for (int b = 0; b < shape.batch; ++b) {
        for (int h = 0; h < heads_; ++h) {
          sums[h] += static_cast<double>(entropy_sums[h]);
          finite[h] += finite_rows[h];
        }
        entropy_sums += heads_;
        finite_rows += heads_;
      }
    }
    rows_ += shape.rows() * layers_ * heads_;
  }

  /// Calls f(first, count) for each array of sums over passes.
  template <class F>
  void for_each_sum(const F& f) {
    f(sums_.data(), sums_.size());
    f(finite_rows_.data(), finite_rows_.size());
    f(&rows_, std::size_t{1});
  }

  /// Reports head_entropy [layer][head] in nats, and nonfinite_rows.
  template <class F>
  void report(const F& f) const {
    f("head_entropy", head_entropy());
    f("nonfinite_rows", nonfinite_rows());
  }

  /// Layers of the model.
  int layers() const { return layers_; }
  /// Heads of each layer.
  int heads() const { return heads_; }

  /// Mean entropy of one head in nats; NaN when it had no finite row.
  double head_entropy(int layer, int head) const {
    const auto at = static_cast<std::size_t>(Index{layer} * heads_ + head);
    if (finite_rows_[at] == 0) return std::numeric_limits<double>::quiet_NaN();
    return sums_[at] / static_cast<double>(finite_rows_[at]);
  }

  /// Mean entropy of every head in nats, [layer][head].
  std::vector<std::vector<double>> head_entropy() const {
    std::vector<std::vector<double>> all(static_cast<std::size_t>(layers_));
    for (int l = 0; l < layers_; ++l) {
      for (int h = 0; h < heads_; ++h) all[static_cast<std::size_t>(l)].push_back(head_entropy(l, h));
    }
    return all;
  }

  /// Rows of attention scores, over all layers and heads, that held a NaN or an infinity.
  std::int64_t nonfinite_rows() const {
    return std::accumulate(finite_rows_.begin(), finite_rows_.end(), rows_, std::minus<>());
  }

 private:
  int layers_;
  int heads_;
  std::vector<double> sums_;
  std::vector<std::int64_t> finite_rows_;
  std::int64_t rows_ = 0;
};

}  // namespace lnfree
