#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <string>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/policies.hpp>
#include <lnfree/core/running_mean.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/nn/normalization.hpp>

namespace lnfree {

/// Start and end of a removal, as shares of a run's steps.
struct NormRemovalOptions {
  double from = 0.1;  ///< Until then all norms are unchanged.
  double to = 0.6;    ///< From then on none is left.

  /// Calls f(name, value, help) for each of the options.
  template <class Options, class F>
  static void for_each(Options& options, const F& f) {
    f("removal_from", options.from, "Share of the steps after which the removal of the norms begins");
    f("removal_to", options.to, "Share of the steps after which no norm is left");
  }
};

/// Removes the norms of a model during training (norm/tapered.hpp, norm/staged.hpp): sets their gates, and
/// measures the scales that replace those of the rows.
///
/// While a gate is 1, the scale is averaged over the steps: at first it is the mean of all, later the newest
/// has a weight of 0.01. For a taper, each step gives the multiple of the centered rows that is nearest to
/// the normalized ones, the sum of variance / sigma over the sum of the variances; for a staged removal, the
/// mean of 1 / sigma. Here sigma is the root of variance + epsilon of a row.
///
/// A gate never opens again: a run that starts from weights whose norms are removed stays without them.
template <class Model>
class NormRemoval {
 public:
  using Device = typename Model::Device;
  using Accumulator = typename Device::Accumulator;

  /// For the norms of `model`, which must outlive it, in a run of `steps` steps. Throws Error if the removal
  /// ends before it begins.
  NormRemoval(Model& model, const NormRemovalOptions& options, Removal kind, std::int64_t steps)
      : model_(model), kind_(kind) {
    if (!(options.from >= 0 && options.from < options.to && options.to <= 1)) {
      throw Error("a removal of norms from " + std::to_string(options.from) + " to " +
                  std::to_string(options.to) +
                  " of the steps is invalid; removal_from must be less than "
                  "removal_to, and both from 0 to 1");
    }
    from_ = static_cast<std::int64_t>(std::llround(options.from * static_cast<double>(steps)));
    to_ =
        std::max(static_cast<std::int64_t>(std::llround(options.to * static_cast<double>(steps))), from_ + 1);
    model.for_each_norm([&](auto& norm) {
      if (const auto gate = norm.gate()) norms_.push_back({*gate, 1, 1});
    });
    order_in_stages();
  }

  /// Reads gates and scales from the model's weights.
  void read() {
    for (Norm& norm : norms_) {
      norm.open = number(*norm.gate.gate);
      norm.scale = number(*norm.gate.scale);
    }
  }

  /// Sets the gates for step `step`.
  void set_gates(std::int64_t step) {
    for (std::size_t i = 0; i < norms_.size(); ++i) {
      const double open = kind_ == Removal::taper ? tapered(step) : step < switched_at(i) ? 1 : 0;
      if (!(open < norms_[i].open)) continue;
      norms_[i].open = write(*norms_[i].gate.gate, open);
    }
  }

  /// The mean of the gates: 1 before the removal, 0 after it.
  double gate() const {
    double sum = 0;
    for (const Norm& norm : norms_) sum += norm.open;
    return norms_.empty() ? 0 : sum / static_cast<double>(norms_.size());
  }

  /// How many numbers measure() gives for a pass.
  std::size_t numbers_of_pass() const { return 2 * norms_.size(); }

  /// Appends the statistics of the last pass over `rows` rows to `sums`, two numbers for each norm.
  void measure(Index rows, std::vector<double>& sums) {
    host_rows_.resize(static_cast<std::size_t>(rows));
    for (const Norm& norm : norms_) {
      double numerator = 0, denominator = 0;
      if (norm.open == 1) {
        copy_to_host(model_.device(), host_rows_.data(), norm.gate.rows, host_rows_.size() * sizeof(Row));
        for (const Row& row : host_rows_) {
          const double variance = row.moments.variance, inverse = row.statistics.scale;
          numerator += kind_ == Removal::taper ? variance * inverse : inverse;
          denominator += kind_ == Removal::taper ? variance : 1;
        }
      }
      sums.push_back(numerator);
      sums.push_back(denominator);
    }
  }

  /// Sets the scales from the statistics of all passes of step `step`, in order.
  void set_scales(std::int64_t step, const std::vector<double>& of_passes) {
    const double weight = running_mean_weight(step);
    for (std::size_t i = 0; i < norms_.size(); ++i) {
      if (norms_[i].open != 1) continue;
      double numerator = 0, denominator = 0;
      for (std::size_t at = 2 * i; at < of_passes.size(); at += numbers_of_pass()) {
        numerator += of_passes[at];
        denominator += of_passes[at + 1];
      }
      if (!(denominator > 0)) continue;  // all rows are constant
      norms_[i].scale = write(*norms_[i].gate.scale,
                              norms_[i].scale + weight * (numerator / denominator - norms_[i].scale));
    }
  }

  /// Whether any norm's scale is still measured.
  bool measures() const {
    return std::any_of(norms_.begin(), norms_.end(), [](const Norm& norm) { return norm.open == 1; });
  }

 private:
  using Row = NormRow<Accumulator>;

  struct Norm {
    NormGate<Device> gate;
    double open;            // value of the gate, from 1 to 0
    double scale;           // value of the scale
    std::size_t stage = 0;  // its number in a staged removal
  };

  double tapered(std::int64_t step) const {
    if (step <= from_) return 1;
    if (step >= to_) return 0;
    const double share = static_cast<double>(step - from_) / static_cast<double>(to_ - from_);
    return (1 + std::cos(std::numbers::pi * share)) / 2;
  }

  /// The order of removal, at equal intervals: the norms of feed-forward networks, of queries and keys, of
  /// values, and the final one.
  void order_in_stages() {
    std::size_t stage = 0;
    for (const NormSite site :
         {NormSite::feed_forward, NormSite::attention, NormSite::values, NormSite::final_norm}) {
      for (Norm& norm : norms_) {
        if (norm.gate.site == site) norm.stage = stage++;
      }
    }
  }

  /// The first step without norm i. The very first step has all norms, in order to measure their scales.
  std::int64_t switched_at(std::size_t i) const {
    const auto count = static_cast<std::int64_t>(norms_.size());
    const std::int64_t events = std::max<std::int64_t>(count - 1, 1);
    return std::max<std::int64_t>(
        1, from_ + (to_ - from_) * static_cast<std::int64_t>(norms_[i].stage) / events);
  }

  double number(const Parameter<Device>& parameter) const {
    return static_cast<double>(model_.parameters().read(model_.device(), parameter)[0]);
  }

  /// Returns the value as a checkpoint stores it.
  double write(Parameter<Device>& parameter, double value) {
    const auto stored = static_cast<Accumulator>(value);
    model_.parameters().write(model_.device(), parameter, &stored);
    return static_cast<double>(stored);
  }

  Model& model_;
  Removal kind_;
  std::int64_t from_ = 0, to_ = 0;  // steps
  std::vector<Norm> norms_;
  std::vector<Row> host_rows_;
};

/// Whether a model has norms that are removed during training.
template <class Model>
concept HasRemovableNorms = requires { Model::Norm::removal; };

}  // namespace lnfree
