#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <lnfree/checkpoint/named_parts.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/core/policies.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/norm/call.hpp>

#include "predictions.hpp"

/// Direct logit attribution: what each part of a model adds to the logit of the true token.
namespace downstream {

/// The map from a row x (C) of the residual stream to a logit, w . N(x) with the final norm N, and its linear
/// approximation. Everything is computed in double.
struct LogitMap {
  using Row = const double*;
  std::function<double(Row w, Row x)> logit;  ///< w . N(x).
  /// By how much removing c from x lowers the logit, in the approximation at x.
  std::function<double(Row w, Row x, Row c)> effect;
  /// The logit after removing all of x, in the approximation at x.
  std::function<double(Row w, Row x)> rest;
};

/// The map of a model with no final norm: linear, so that the approximation is exact.
inline LogitMap linear_map(std::size_t width) {
  const auto dot = [width](LogitMap::Row w, LogitMap::Row x) {
    double sum = 0;
    for (std::size_t j = 0; j < width; ++j) sum += w[j] * x[j];
    return sum;
  };
  return {dot, [dot](LogitMap::Row w, LogitMap::Row, LogitMap::Row c) { return dot(w, c); },
          [](LogitMap::Row, LogitMap::Row) { return 0.0; }};
}

/// The map of a model with the final norm N, whose parameters are `values`, one number or one for each
/// channel. The approximation keeps the scale of a RowNorm, the inverse standard deviation in a LayerNorm,
/// fixed at its value for x, while the shift, which is linear in x, varies. For a PointwiseNorm it is the
/// tangent at x.
template <class N>
LogitMap norm_map(std::size_t width, std::vector<std::vector<double>> values) {
  using lnfree::RowStatistics;
  using Row = LogitMap::Row;
  const auto statistics = [width](const auto& at) {
    double mean = 0, variance = 0;
    for (std::size_t j = 0; j < width; ++j) mean += at(j);
    mean /= static_cast<double>(width);
    for (std::size_t j = 0; j < width; ++j) variance += (at(j) - mean) * (at(j) - mean);
    variance /= static_cast<double>(width);
    if constexpr (lnfree::RowNorm<N>) {
      return N::statistics(mean, variance);
    } else {
      return RowStatistics<double>{};
    }
  };
  const auto element = [values = std::move(values)](double x, std::size_t j, RowStatistics<double> row) {
    lnfree::NormElement<N, double> result{x, row, {}};
    for (std::size_t k = 0; k < values.size(); ++k) result.p[k] = values[k][values[k].size() == 1 ? 0 : j];
    return result;
  };
  const auto sum = [=](Row w, const auto& at, RowStatistics<double> row) {
    double total = 0;
    for (std::size_t j = 0; j < width; ++j) total += w[j] * element(at(j), j, row).value();
    return total;
  };
  const auto rest_of = [=](Row w, Row x, const auto& removed) {
    const auto at_x = [x](std::size_t j) { return x[j]; };
    const auto left = [&](std::size_t j) { return x[j] - removed(j); };
    RowStatistics<double> row = statistics(left);
    row.scale = statistics(at_x).scale;
    if constexpr (lnfree::RowNorm<N>) return sum(w, left, row);
    double total = 0;
    for (std::size_t j = 0; j < width; ++j) {
      const auto at = element(x[j], j, row);
      total += w[j] * (at.value() - at.slope() * removed(j));
    }
    return total;
  };
  const auto logit = [=](Row w, Row x) {
    const auto at_x = [x](std::size_t j) { return x[j]; };
    return sum(w, at_x, statistics(at_x));
  };
  return {
      logit,
      [=](Row w, Row x, Row c) { return logit(w, x) - rest_of(w, x, [c](std::size_t j) { return c[j]; }); },
      [=](Row w, Row x) { return rest_of(w, x, [x](std::size_t j) { return x[j]; }); }};
}

/// Converts numbers to double.
template <class T>
std::vector<double> in_double(const std::vector<T>& values) {
  return {values.begin(), values.end()};
}

/// The map of an opened model whose final norm has that name.
template <class Policies, class Model>
LogitMap logit_map(Model& model, std::string_view final_norm) {
  const auto width = static_cast<std::size_t>(model.config.width);
  LogitMap map = linear_map(width);
  lnfree::detail::with_named_policy(typename Policies::Norms{}, "norm", final_norm, [&]<class N>() {
    if constexpr (!std::is_same_v<N, lnfree::Identity>) {
      std::vector<std::vector<double>> values;
      lnfree::for_norm_parameters<N>([&](auto k) {
        const std::string name = "ln_f." + std::string(lnfree::norm_parameter<N, k()>.name);
        for (const auto& parameter : model.parameters().all()) {
          if (parameter.name == name)
            values.push_back(in_double(model.parameters().read(model.device(), parameter)));
        }
      });
      map = norm_map<N>(width, std::move(values));
    }
  });
  return map;
}

/// The output matrix (V, C) of an opened model, minus the mean of its rows. Logits are then relative to the
/// mean of all logits, and the softmax is the same.
template <class Model>
std::vector<double> centered_output_rows(Model& model) {
  std::vector<double> rows;
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.name == (model.config.tied_output ? "wte.weight" : "lm_head.weight"))
      rows = in_double(model.parameters().read(model.device(), parameter));
  }
  const auto width = static_cast<std::size_t>(model.config.width);
  const std::size_t count = rows.size() / width;
  std::vector<double> mean(width);
  for (std::size_t i = 0; i < rows.size(); ++i) mean[i % width] += rows[i] / static_cast<double>(count);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] -= mean[i % width];
  return rows;
}

/// An observer that keeps the residual stream of the last pass after each part, and measures how accurate
/// direct logit attribution is. A part's contribution c is what it adds to the stream x before the final
/// norm. With w the centered output row of the true token:
///
///   true effect       w . N(x) - w . N(x - c)
///   attribution       the same with the scale of N held at its value for x
///   error             sum |attribution - true effect| / sum |true effect|, over targets and parts
///   sum error         mean |logit - sum of attributions - what no part adds| / mean |logit|
///
/// as Baroni et al., "Transformers Don't Need LayerNorm at Inference Time" (2025), do with heads. Without a
/// final norm both errors are rounding.
class AttributionObserver {
 public:
  static constexpr bool observes_stream_parts = true;

  AttributionObserver(int layers, int /*heads*/) : part_count_(1 + 2 * static_cast<std::size_t>(layers)) {}

  /// Clears everything but the model's output.
  void reset() {
    parts_.clear();
    logits_ = unexplained_ = 0;
    targets_ = 0;
  }

  /// Sets how logits are computed. `output_rows` is (V, C).
  void set_model(LogitMap map, std::vector<double> output_rows, std::size_t width) {
    map_ = std::move(map);
    output_rows_ = std::move(output_rows);
    width_ = width;
  }

  /// Keeps the stream after one part.
  template <class T>
  void record_part(int layer, lnfree::StreamPart added, lnfree::BatchShape, lnfree::Matrix<const T> x) {
    if (added == lnfree::StreamPart::embedding) place_ = 0;
    if (place_ == parts_.size()) parts_.push_back({name_of(layer, added)});
    parts_[place_++].stream.assign(x.data, x.data + x.size());
  }

  /// Adds the last pass, with its predictions.
  void add(const std::vector<Prediction>& predictions) {
    if (!is_defined()) return;
    struct OfRow {
      std::vector<double> effects, errors;
      double unexplained = 0;
    };
    // Summed row by row afterwards, so that the result does not depend on the threads.
    std::vector<OfRow> rows(predictions.size());
#pragma omp parallel for
    for (std::size_t row = 0; row < rows.size(); ++row) {
      if (predictions[row].target < 0) continue;
      const double* const w =
          output_rows_.data() + static_cast<std::size_t>(predictions[row].target) * width_;
      std::vector<double> x = stream(part_count_ - 1, row), before(width_), c(width_), left(width_);
      const double logit = map_.logit(w, x.data());
      double explained = map_.rest(w, x.data());
      for (std::size_t part = 0; part < part_count_; ++part) {
        const std::vector<double> after = stream(part, row);
        for (std::size_t j = 0; j < width_; ++j) {
          c[j] = after[j] - before[j];
          left[j] = x[j] - c[j];
        }
        before = after;
        const double effect = logit - map_.logit(w, left.data());
        const double attributed = map_.effect(w, x.data(), c.data());
        explained += attributed;
        rows[row].effects.push_back(std::abs(effect));
        rows[row].errors.push_back(std::abs(attributed - effect));
      }
      rows[row].unexplained = std::abs(predictions[row].logit - explained);
    }
    for (std::size_t row = 0; row < rows.size(); ++row) {
      if (predictions[row].target < 0) continue;
      for (std::size_t part = 0; part < part_count_; ++part) {
        parts_[part].effect += rows[row].effects[part];
        parts_[part].error += rows[row].errors[part];
      }
      logits_ += std::abs(predictions[row].logit);
      unexplained_ += rows[row].unexplained;
      ++targets_;
    }
  }

  /// Whether the stream is the sum of its parts, which it is not if a norm is in it.
  bool is_defined() const { return parts_.size() == part_count_; }

  /// The error over all parts, or over those whose name begins with `kind`; NaN if it is not defined.
  double error(std::string_view kind = "") const {
    double effect = 0, error = 0;
    for (const Part& part : parts_) {
      if (!part.name.starts_with(kind)) continue;
      effect += part.effect;
      error += part.error;
    }
    return is_defined() ? error / effect : std::numeric_limits<double>::quiet_NaN();
  }

  /// How far the logits are from the sums of the parts' contributions; NaN if that is not defined.
  double sum_error() const {
    return is_defined() ? unexplained_ / logits_ : std::numeric_limits<double>::quiet_NaN();
  }

  /// error, error of attention only, sum_error, and for each part the mean size of its true effect and its
  /// error; null if there are no parts.
  lnfree::Json json() const {
    if (!is_defined()) return {};
    lnfree::Json list = lnfree::Json::array();
    for (const Part& part : parts_) {
      list.push_back({{"part", part.name},
                      {"effect", ratio(part.effect, static_cast<double>(targets_))},
                      {"error", ratio(part.error, part.effect)}});
    }
    return {{"error", error()},
            {"attention_error", error("attention")},
            {"sum_error", sum_error()},
            {"parts", list}};
  }

 private:
  struct Part {
    std::string name;
    std::vector<float> stream = {};  // (B T, C), after the part
    double effect = 0, error = 0;    // sums of absolute values
  };

  /// "embedding", "attention 3", "feed-forward 3".
  static std::string name_of(int layer, lnfree::StreamPart part) {
    if (part == lnfree::StreamPart::embedding) return "embedding";
    return (part == lnfree::StreamPart::attention ? "attention " : "feed-forward ") + std::to_string(layer);
  }

  std::vector<double> stream(std::size_t part, std::size_t row) const {
    const float* const first = parts_[part].stream.data() + row * width_;
    return {first, first + width_};
  }

  std::size_t part_count_, width_ = 0, place_ = 0;
  LogitMap map_;
  std::vector<double> output_rows_;  // (V, C)
  std::vector<Part> parts_;
  double logits_ = 0, unexplained_ = 0;  // sums of absolute values
  std::int64_t targets_ = 0;
};

}  // namespace downstream
