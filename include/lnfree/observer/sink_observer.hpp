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

/// How much of its attention each head pays to the first position of a sequence, over all passes since the
/// last reset():
///
///   share(l, h) = mean over sequences and queries i >= 1 of a_i0
///
/// Query 0 attends to nothing else and is left out. A head with a share above one half is an attention sink
/// (Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2024). No attention matrix is
/// needed: a_i0 follows from q_i, k_0 and the sum of exponentials that the softmax keeps for each query. In
/// float this is accurate to four digits for scores as large as 1,000. A query whose scores are not all
/// finite is left out.
class SinkObserver {
 public:
  static constexpr std::string_view name = "sinks";
  static constexpr bool observes_attention = true;

  /// For a model of that many layers and heads.
  SinkObserver(int layers, int heads)
      : layers_(layers),
        heads_(heads),
        sums_(static_cast<std::size_t>(layers * heads)),
        counts_(sums_.size()) {}

  /// Clears what was gathered.
  void reset() {
    std::fill(sums_.begin(), sums_.end(), 0.0);
    std::fill(counts_.begin(), counts_.end(), 0);
  }

  /// Adds one layer of a pass: Q | K | V (B T, 3 C) and ln sum_j exp(s_ij) of each query (B, H, T).
  template <class T>
  void record_attention(int layer, AttentionShape shape, Matrix<const T> qkv, const T* log_sums) {
    const double scale = 1 / std::sqrt(static_cast<double>(shape.head_dim));
    for (int b = 0; b < shape.batch; ++b) {
      for (int h = 0; h < shape.heads; ++h) {
        const T* const key = qkv.row(Index{b} * shape.length) + shape.width() + h * shape.head_dim;
        const T* const log_sum = log_sums + (Index{b} * shape.heads + h) * shape.length;
        const auto at = static_cast<std::size_t>(layer * heads_ + h);
        for (int i = 1; i < shape.length; ++i) {
          const T* const query = qkv.row(Index{b} * shape.length + i) + h * shape.head_dim;
          double score = 0;
          for (int c = 0; c < shape.head_dim; ++c)
            score += static_cast<double>(query[c]) * static_cast<double>(key[c]);
          const double weight = std::exp(scale * score - static_cast<double>(log_sum[i]));
          if (!std::isfinite(weight)) continue;
          sums_[at] += std::min(weight, 1.0);
          ++counts_[at];
        }
      }
    }
  }

  /// Calls f(first, count) for each array of sums over passes.
  template <class F>
  void for_each_sum(const F& f) {
    f(sums_.data(), sums_.size());
    f(counts_.data(), counts_.size());
  }

  /// Reports the share of each head, [layer][head], and the share of heads that are sinks.
  template <class F>
  void report(const F& f) const {
    f("first_token_attention", shares());
    f("sink_rate", sink_rate());
  }

  /// The mean attention of every head to the first position, [layer][head]; NaN where no query counted.
  std::vector<std::vector<double>> shares() const {
    std::vector<std::vector<double>> all(static_cast<std::size_t>(layers_));
    for (std::size_t at = 0; at < sums_.size(); ++at) {
      all[at / static_cast<std::size_t>(heads_)].push_back(
          counts_[at] == 0 ? std::numeric_limits<double>::quiet_NaN()
                           : sums_[at] / static_cast<double>(counts_[at]));
    }
    return all;
  }

  /// The share of all heads that pay more than half of their attention to the first position.
  double sink_rate() const {
    int sinks = 0;
    for (const auto& layer : shares())
      sinks += static_cast<int>(std::count_if(layer.begin(), layer.end(), [](double s) { return s > 0.5; }));
    return static_cast<double>(sinks) / static_cast<double>(sums_.size());
  }

 private:
  int layers_, heads_;
  std::vector<double> sums_;
  std::vector<std::int64_t> counts_;
};

}  // namespace lnfree
