#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include <lnfree/core/config.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/core/policies.hpp>
#include <lnfree/core/running_mean.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/norm/call.hpp>
#include <lnfree/objective/objective.hpp>

namespace lnfree {

/// Run-time choices of SteadyScale.
struct SteadyScaleOptions {
  double coefficient = 0;         ///< What the penalty is multiplied with; 0: none.
  std::int64_t end_of_text = -1;  ///< Token whose rows are left out; less than 0: none.
  double anchor = 0;              ///< Coefficient of the anchor's penalty; 0: no anchor.

  /// Calls f(name, value, help) for each of the options.
  template <class Options, class F>
  static void for_each(Options& options, const F& f) {
    f("spread_penalty", options.coefficient,
      "Coefficient of the penalty on the spread of the stream's scale behind the last block; 0: none");
    f("spread_end_of_text", options.end_of_text,
      "Token whose positions the penalties on that scale ignore; -1: none");
    f("anchor_penalty", options.anchor,
      "Coefficient of the penalty on that scale's distance from its value with all norms in place; 0: none");
  }
};

/// The forward pass gives x - mean(x) of each row. The backward pass, called with that result as d_y and with
/// a factor in place of each row's scale, gives the factor times x - mean(x): the direction in which the
/// variance of the row grows.
struct CenteredRow {
  static constexpr std::string_view name = "centered";
  template <class T>
  LNFREE_HOST_DEVICE static RowStatistics<T> statistics(T mean, T /*variance*/) {
    return {mean, T(1)};
  }
  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, RowStatistics<T> row) {
    return (x - row.shift) * row.scale;
  }
};

/// The cross-entropy and two penalties on the scale of the stream before the final norm, so that this norm
/// can be removed as well:
///
///   coefficient mean_i (sigma_i - mean sigma)^2 + anchor mean_i (sigma_i - target)^2
///
/// over the rows of a pass, where sigma_i is the root of the row's variance + 1e-5. The first makes the scale
/// equal for all tokens (Baroni et al., 2025). The second, the anchor, holds the scale at a target: without a
/// final norm nothing else keeps the cross-entropy from lengthening the stream (TaperNorm, 2026). The target
/// is the running mean of sigma over the steps, until the removal of the last norm begins; then it is fixed.
/// Before the first update_target() or set_target() there is no target and no anchor. Both ignore first
/// positions, whose scale is many times that of others in a trained model.
template <class Device>
class SteadyScale {
 public:
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;
  static constexpr std::string_view name = "steady_scale";

  /// Has no parameters of its own.
  SteadyScale(ParameterSet<Device>&, const DecoderConfig&) {}

  /// Its run-time choices.
  SteadyScaleOptions& options() { return options_; }
  /// Its run-time choices.
  const SteadyScaleOptions& options() const { return options_; }

  /// Reserves the centered rows of a pass, and their moments.
  void plan(Arena& arena, BatchShape max_shape, const DecoderConfig& config) {
    centered_ = arena.matrix<Scalar>(max_shape.rows(), config.width);
    rows_ = arena.take<Row>(max_shape.rows());
    // In a plan that is only counted the host takes nothing either.
    if (rows_ == nullptr) return;
    host_rows_.resize(static_cast<std::size_t>(max_shape.rows()));
    host_tokens_.resize(host_rows_.size());
  }

  /// As objective/objective.hpp says.
  double on_stream(Device& device, const TrainingPass& pass, Matrix<const Scalar> x, Matrix<Scalar> d_x) {
    penalty_ = 0;
    last_pass_ = {};
    if (options_.coefficient == 0 && options_.anchor == 0) return 0;
    const auto count = static_cast<std::size_t>(x.rows);
    const Matrix<Scalar> centered = centered_.top(x.rows);
    norm_forward(device, CenteredRow{}, x, NormPointers<const Scalar, CenteredRow>{}, centered, rows_);
    copy_to_host(device, host_rows_.data(), rows_, count * sizeof(Row));
    copy_to_host(device, host_tokens_.data(), pass.tokens, count * sizeof(std::int32_t));
    const auto counts = [&](std::size_t i) {
      return i % static_cast<std::size_t>(pass.shape.length) != 0 && host_tokens_[i] != options_.end_of_text;
    };
    const auto scale_of = [&](std::size_t i) {
      return std::sqrt(static_cast<double>(host_rows_[i].moments.variance) + epsilon);
    };
    for (std::size_t i = 0; i < count; ++i) {
      if (!counts(i)) continue;
      last_pass_.sum += scale_of(i);
      last_pass_.rows += 1;
    }
    if (last_pass_.rows == 0) return 0;
    const double mean = last_pass_.sum / last_pass_.rows;
    const double spread = options_.coefficient / last_pass_.rows;
    const double anchor = has_target() ? options_.anchor / last_pass_.rows : 0;
    for (std::size_t i = 0; i < count; ++i) {
      double slope = 0;
      const double scale = scale_of(i);
      if (counts(i)) {
        const double from_mean = scale - mean, from_target = scale - target_;
        penalty_ += spread * from_mean * from_mean + anchor * from_target * from_target;
        // The derivative of the mean cancels, since the deviations add up to 0.
        slope = 2 * (spread * from_mean + anchor * from_target);
      }
      host_rows_[i].statistics.scale =
          static_cast<Accumulator>(pass.gradient_scale * slope / (scale * static_cast<double>(x.cols)));
    }
    copy_to_device(device, rows_, host_rows_.data(), count * sizeof(Row));
    norm_backward(device, CenteredRow{}, x, NormPointers<const Scalar, CenteredRow>{}, rows_, centered,
                  accumulate(d_x), NormPointers<Accumulator, CenteredRow>{});
    return penalty_;
  }

  /// The scale at which the anchor holds the stream; 0 if there is no target yet.
  double target() const { return target_; }
  /// Sets the target, as from a checkpoint; 0: none.
  void set_target(double target) { target_ = target; }
  /// Whether there is a target.
  bool has_target() const { return target_ > 0; }

  /// Appends to `sums` the two numbers of the last training pass that update_target() needs.
  void measure(std::vector<double>& sums) const {
    sums.push_back(last_pass_.sum);
    sums.push_back(last_pass_.rows);
  }

  /// Updates the target with the numbers that measure() gave for all passes of step `step`. It is the mean
  /// over all steps at first; later the newest step has a weight of 0.01. Without an anchor there is no
  /// target.
  void update_target(std::int64_t step, const std::vector<double>& of_passes) {
    if (options_.anchor == 0) return;
    Scales all;
    for (std::size_t i = 0; i + 1 < of_passes.size(); i += 2) {
      all.sum += of_passes[i];
      all.rows += of_passes[i + 1];
    }
    const double mean = all.sum / all.rows;
    if (!(mean > 0 && mean <= std::numeric_limits<double>::max())) return;
    const double weight = has_target() ? running_mean_weight(step) : 1;
    target_ += weight * (mean - target_);
  }

  /// Calls f(number) for what report() says of the last training pass.
  template <class F>
  void for_each_of_last_pass(const F& f) {
    f(penalty_);
  }

  /// Reports the penalty of the last training pass, and the target if there is one.
  template <class F>
  void report(const ParameterSet<Device>&, Device&, const F& f) const {
    f("penalty", penalty_);
    if (has_target()) f("target", target_);
  }

 private:
  using Row = NormRow<Accumulator>;
  static constexpr double epsilon = 1e-5;

  /// The scales of the rows that are not ignored.
  struct Scales {
    double sum = 0;
    double rows = 0;
  };

  SteadyScaleOptions options_;
  double penalty_ = 0;
  double target_ = 0;
  Scales last_pass_;
  Matrix<Scalar> centered_;  // (B, T, C)
  Row* rows_ = nullptr;      // (B, T)
  std::vector<Row> host_rows_;
  std::vector<std::int32_t> host_tokens_;
};

}  // namespace lnfree
