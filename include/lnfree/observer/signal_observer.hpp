#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string_view>
#include <vector>

#include <lnfree/core/eigen.hpp>
#include <lnfree/core/eigenvalues.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree {

/// How well the residual stream x (B T, C) still distinguishes tokens, after every layer, over all passes
/// since the last reset():
///
///   cosine          mean over sequences and pairs of their tokens, i != j, of the cosine of x_i and x_j:
///                   1 if all tokens of a sequence have become alike (rank collapse; Dong et al., "Attention
///                   is Not All You Need", 2021)
///   effective_rank  exp(-sum_k p_k ln p_k) with p_k the eigenvalues of x^T x over their sum: how many
///                   directions the stream uses, from 1 to C (Roy and Vetterli, "The Effective Rank", 2007)
///
/// Rows that are zero or not finite have no direction and are left out. The observer keeps a C x C matrix of
/// doubles for each layer. It uses Eigen and so works in C++ sources only, whatever the device.
class SignalObserver {
 public:
  static constexpr std::string_view name = "signal";
  static constexpr bool observes_stream_values = true;

  /// For a model of that many layers.
  SignalObserver(int layers, int /*heads*/) : of_layer_(static_cast<std::size_t>(layers)) {}

  /// Clears what was gathered.
  void reset() {
    for (Layer& layer : of_layer_) {
      layer.squares.setZero();
      layer.cosines = 0;
      layer.pairs = layer.rows = 0;
    }
  }

  /// Adds the stream after one layer of one pass, in host memory.
  template <class T>
  void record_stream(int layer, BatchShape shape, Matrix<const T> x);

  /// Calls f(first, count) for each array of sums over passes.
  template <class F>
  void for_each_sum(const F& f) {
    for (Layer& layer : of_layer_) {
      f(layer.squares.data(), static_cast<std::size_t>(layer.squares.size()));
      f(&layer.cosines, std::size_t{1});
      f(&layer.pairs, std::size_t{1});
      f(&layer.rows, std::size_t{1});
    }
  }

  /// The mean cosine, by layer; NaN where no pair of rows was seen.
  std::vector<double> cosine() const {
    return for_layers([](const Layer& layer) {
      return layer.pairs == 0 ? none : layer.cosines / static_cast<double>(layer.pairs);
    });
  }
  /// The effective rank of the stream, by layer.
  std::vector<double> effective_rank() const {
    return for_layers([](const Layer& layer) { return layer.rows == 0 ? none : layer.effective_rank(); });
  }

  /// Reports the cosine and the effective rank, each by layer.
  template <class F>
  void report(const F& f) const {
    f("cosine", cosine());
    f("effective_rank", effective_rank());
  }

 private:
  static constexpr double none = std::numeric_limits<double>::quiet_NaN();
  using Values = RowMajorMatrix<double>;

  struct Layer {
    Values squares;      // x^T x (C, C) of all rows; only the lower half
    double cosines = 0;  // summed over all pairs
    Index pairs = 0, rows = 0;

    /// Adds the cosines of a sequence of `length` rows that begins at row `first`, and moves the rows that
    /// have a direction to row `to` and following. Returns their number.
    Index add_directions(Values& values, Index first, Index length, Index to) {
      Index count = 0;
      Eigen::RowVectorXd directions = Eigen::RowVectorXd::Zero(values.cols());
      for (Index i = first; i < first + length; ++i) {
        const double norm = values.row(i).norm();
        if (!(norm > 0 && norm < std::numeric_limits<double>::infinity())) continue;
        directions += values.row(i) / norm;
        if (to + count != i) values.row(to + count) = values.row(i);
        ++count;
      }
      // For unit vectors, |sum_i u_i|^2 = count + the sum of the cosines of all pairs.
      cosines += directions.squaredNorm() - static_cast<double>(count);
      pairs += count * (count - 1);
      rows += count;
      return count;
    }

    /// Adds x^T x of the first `count` rows, in strips that the threads share dynamically.
    void add_squares(const Values& values, Index count) {
      constexpr Index width = 64;
      const Index strips = (values.cols() + width - 1) / width;
      const auto x = values.topRows(count);
#pragma omp parallel for schedule(dynamic) if (strips > 1)
      for (Index strip = 0; strip < strips; ++strip) {
        const Index first = strip * width, last = std::min(first + width, Index{values.cols()});
        squares.block(first, 0, last - first, last).noalias() +=
            x.middleCols(first, last - first).transpose() * x.leftCols(last);
      }
    }

    double effective_rank() const {
      const Eigen::ArrayXd shares = eigenvalues(squares).array().max(0.0) / squares.trace();
      return std::exp(-(shares > 0.0).select(shares * shares.log(), 0.0).sum());
    }
  };

  template <class F>
  std::vector<double> for_layers(const F& f) const {
    std::vector<double> numbers;
    for (const Layer& layer : of_layer_) numbers.push_back(f(layer));
    return numbers;
  }

  std::vector<Layer> of_layer_;
  Values values_;  // of the stream being recorded; kept to reuse its memory
};

// Not inline, so that a program of many sources can compile it in one of them.
template <class T>
void SignalObserver::record_stream(int layer, BatchShape shape, Matrix<const T> x) {
  Layer& to = of_layer_[static_cast<std::size_t>(layer)];
  if (to.squares.cols() != x.cols) to.squares.setZero(x.cols, x.cols);
  values_ = as_eigen(x).template cast<double>();
  Index count = 0;  // of rows that have a direction; they are moved to the top
  for (Index b = 0; b < shape.batch; ++b)
    count += to.add_directions(values_, b * shape.length, shape.length, count);
  to.add_squares(values_, count);
}

}  // namespace lnfree
