#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <lnfree/core/json.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/tensor.hpp>

/// A model's predictions of the next token, and sums over them.
namespace downstream {

/// One prediction, from the softmax of its logits.
struct Prediction {
  std::int32_t target = -1;         ///< The true token; negative if there is none.
  std::int32_t best = 0;            ///< The most probable token; of several, the first.
  double loss = 0;                  ///< -ln of the true token's probability.
  double confidence = 0;            ///< Probability of the most probable token.
  double entropy = 0;               ///< -sum p ln p, nats.
  double logit = 0;                 ///< Logit of the true token, relative to the mean of all logits.
  std::array<double, 3> closing{};  ///< Probability of the tokens that begin with ), ] and }.

  /// Whether the most probable token is the true one.
  bool is_correct() const { return best == target; }
};

/// The prediction of a row of logits x:
///
///   ln Z = max + ln sum exp(x - max),   loss = ln Z - x_target,   entropy = ln Z - sum p x
///
/// `closing` holds the tokens that begin with each bracket.
inline Prediction predict(std::span<const float> x, std::int32_t target,
                          const std::array<std::vector<std::int32_t>, 3>& closing) {
  Prediction result;
  result.target = target;
  result.best = static_cast<std::int32_t>(std::max_element(x.begin(), x.end()) - x.begin());
  const float max = x[static_cast<std::size_t>(result.best)];
  double sum = 0, weighted = 0, total = 0;
  // Short sums in float, which vectorize, and their sum in double.
  for (std::size_t first = 0; first < x.size(); first += 256) {
    const std::size_t count = std::min<std::size_t>(256, x.size() - first);
    const float* const part = x.data() + first;
    float part_sum = 0, part_weighted = 0, part_total = 0;
#pragma omp simd reduction(+ : part_sum, part_weighted, part_total)
    for (std::size_t i = 0; i < count; ++i) {
      const float e = lnfree::math::exp(part[i] - max);
      part_sum += e;
      part_weighted += e * (part[i] - max);
      part_total += part[i] - max;
    }
    sum += static_cast<double>(part_sum);
    weighted += static_cast<double>(part_weighted);
    total += static_cast<double>(part_total);
  }
  const double log_sum = std::log(sum);
  const auto above_max = [&](std::int32_t token) {
    return static_cast<double>(x[static_cast<std::size_t>(token)]) - static_cast<double>(max);
  };
  result.confidence = 1 / sum;
  result.entropy = log_sum - weighted / sum;
  for (std::size_t kind = 0; kind < closing.size(); ++kind) {
    for (const std::int32_t token : closing[kind])
      result.closing[kind] += std::exp(above_max(token) - log_sum);
  }
  if (target >= 0) {
    result.loss = log_sum - above_max(target);
    result.logit = above_max(target) - total / static_cast<double>(x.size());
  }
  return result;
}

/// An observer that turns the logits of a pass into predictions. expect() comes before the pass.
class PredictionObserver {
 public:
  static constexpr bool observes_logits = true;

  PredictionObserver(int /*layers*/, int /*heads*/) {}
  /// Clears the last pass.
  void reset() { predictions_.clear(); }

  /// Sets the tokens that begin with each closing bracket.
  void set_closing(std::array<std::vector<std::int32_t>, 3> closing) { closing_ = std::move(closing); }

  /// Sets the targets of the next pass.
  void expect(std::span<const std::int32_t> targets) {
    predictions_.assign(targets.size(), {});
    for (std::size_t i = 0; i < targets.size(); ++i) predictions_[i].target = targets[i];
    rows_ = 0;
  }

  /// Adds the logits of some rows. They are kept until there is work for all threads.
  template <class T>
  void record_logits(lnfree::Index first_row, lnfree::Matrix<const T> logits) {
    for (lnfree::Index i = 0; i < logits.rows; ++i) {
      if (rows_ == 0) first_row_ = first_row + i;
      vocabulary_ = static_cast<std::size_t>(logits.cols);
      kept_.resize(kept_rows * vocabulary_);
      std::copy_n(logits.row(i), vocabulary_,
                  kept_.begin() + static_cast<std::ptrdiff_t>(rows_ * vocabulary_));
      if (++rows_ == kept_rows) predict_kept();
    }
  }

  /// The predictions of the last pass, a row each.
  const std::vector<Prediction>& predictions() {
    predict_kept();
    return predictions_;
  }

 private:
  static constexpr std::size_t kept_rows = 64;

  void predict_kept() {
#pragma omp parallel for
    for (std::size_t i = 0; i < rows_; ++i) {
      Prediction& at = predictions_[static_cast<std::size_t>(first_row_) + i];
      if (at.target >= 0) at = predict({kept_.data() + i * vocabulary_, vocabulary_}, at.target, closing_);
    }
    rows_ = 0;
  }

  std::array<std::vector<std::int32_t>, 3> closing_;
  std::vector<Prediction> predictions_;
  std::vector<float> kept_;  // (kept_rows, V)
  std::size_t vocabulary_ = 0, rows_ = 0;
  lnfree::Index first_row_ = 0;
};

/// A ratio, or null if there is nothing to count.
inline lnfree::Json ratio(double sum, double count) {
  return count > 0 ? lnfree::Json(sum / count) : lnfree::Json();
}

/// How well some targets were predicted.
struct Tally {
  std::int64_t targets = 0, correct = 0;
  double loss = 0;  ///< Summed.

  void add(const Prediction& prediction) {
    ++targets;
    correct += prediction.is_correct();
    loss += prediction.loss;
  }

  /// targets, accuracy, loss.
  lnfree::Json json() const {
    const auto count = static_cast<double>(targets);
    return {{"targets", targets},
            {"accuracy", ratio(static_cast<double>(correct), count)},
            {"loss", ratio(loss, count)}};
  }
};

/// Closing brackets that came next: how often the most probable token closed with the same one, and how much
/// of the probability of all closing brackets it had.
struct BracketTally {
  std::int64_t targets = 0, correct = 0;
  double share = 0;  ///< Summed.

  /// `kind` is that of the true token, `best` that of the most probable one: 0 to 2, or none (-1).
  void add(const Prediction& prediction, int kind, int best) {
    ++targets;
    correct += best == kind;
    const auto& p = prediction.closing;
    const double all = p[0] + p[1] + p[2];
    share += all > 0 ? p[static_cast<std::size_t>(kind)] / all : 0;
  }

  /// targets, accuracy, probability_share.
  lnfree::Json json() const {
    const auto count = static_cast<double>(targets);
    return {{"targets", targets},
            {"accuracy", ratio(static_cast<double>(correct), count)},
            {"probability_share", ratio(share, count)}};
  }
};

/// The expected calibration error (Guo et al., "On Calibration of Modern Neural Networks", 2017): predictions
/// in 15 bins of equal width by confidence,
///
///   ECE = sum_bins n_bin / n |accuracy_bin - confidence_bin|
class Calibration {
 public:
  static constexpr std::size_t bins = 15;

  void add(const Prediction& prediction) {
    const auto bin = static_cast<std::size_t>(prediction.confidence * bins);
    Bin& at = bins_[std::min(bin, bins - 1)];
    ++at.count;
    at.correct += prediction.is_correct();
    at.confidence += prediction.confidence;
    entropy_ += prediction.entropy;
  }

  /// The error, 0 without predictions.
  double error() const {
    double sum = 0;
    for (const Bin& bin : bins_) sum += std::abs(static_cast<double>(bin.correct) - bin.confidence);
    return count() == 0 ? 0 : sum / static_cast<double>(count());
  }

  /// The mean entropy of the predictions in nats, NaN without any.
  double entropy() const { return entropy_ / static_cast<double>(count()); }

  /// ece, confidence, and the bins.
  lnfree::Json json() const {
    lnfree::Json list = lnfree::Json::array();
    double confidence = 0;
    for (const Bin& bin : bins_) {
      const auto count = static_cast<double>(bin.count);
      confidence += bin.confidence;
      list.push_back({{"targets", bin.count},
                      {"confidence", ratio(bin.confidence, count)},
                      {"accuracy", ratio(static_cast<double>(bin.correct), count)}});
    }
    return {
        {"ece", error()}, {"confidence", ratio(confidence, static_cast<double>(count()))}, {"bins", list}};
  }

 private:
  struct Bin {
    std::int64_t count = 0, correct = 0;
    double confidence = 0;  // summed
  };

  std::int64_t count() const {
    std::int64_t sum = 0;
    for (const Bin& bin : bins_) sum += bin.count;
    return sum;
  }

  std::array<Bin, bins> bins_{};
  double entropy_ = 0;  // summed
};

}  // namespace downstream
