#pragma once

#include <cmath>
#include <cstddef>
#include <string_view>
#include <vector>

#include <lnfree/core/config.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/objective/objective.hpp>

namespace lnfree {

/// Run-time choices of the entropy-guided loss; the defaults are those of its authors' code.
struct EntropyGuidedOptions {
  double coefficient = 1e-5;  ///< What the penalty is multiplied with; 0: none.
  double margin = 0.2;    ///< Deviation that costs nothing, as a share of the largest entropy, ln(context).
  bool sums_rows = true;  ///< Sum over sequences and queries, which grows with the batch; false: their mean.

  /// Calls f(name, value, help) for each of the options.
  template <class Options, class F>
  static void for_each(Options& options, const F& f) {
    f("entropy_penalty", options.coefficient, "Coefficient of the penalty on entropies; 0: none");
    f("entropy_margin", options.margin,
      "Deviation of an entropy that costs nothing, as a share of ln(context)");
    f("entropy_sums_rows", options.sums_rows,
      "Sum the penalty over sequences and queries, and do not take their mean");
  }
};

/// The cross-entropy and the entropy-guided loss of "Entropy-Guided Attention for Private LLMs" (Jha and
/// Reagen, 2025): for each head and query, the squared deviation of its entropy from the head's threshold
/// where it is more than a margin away,
///
///   coefficient mean over layers and heads of sum over sequences and queries of e^2 [|e| > margin M],
///   e = E - w_h M,   M = ln(context)
///
/// with a threshold w_h for each head, learned and shared by the layers (parameter "entropy_threshold").
template <class Device>
class EntropyGuided {
 public:
  using Accumulator = typename Device::Accumulator;
  static constexpr std::string_view name = "entropy_penalty";

  /// Where a head's threshold starts: half the largest entropy.
  static constexpr double initial_threshold = 0.5;

  /// Adds a threshold for each head.
  EntropyGuided(ParameterSet<Device>& parameters, const DecoderConfig& config)
      : threshold_(
            parameters.add("entropy_threshold", {config.heads}, ParameterKind::threshold, initial_threshold)),
        layers_(config.layers),
        heads_(config.heads),
        max_entropy_(std::log(static_cast<double>(config.context))) {}

  /// The strength of the penalty, which may be changed between passes.
  EntropyGuidedOptions& options() { return options_; }
  /// Its run-time choices.
  const EntropyGuidedOptions& options() const { return options_; }

  /// Reserves a sum for each row of entropies.
  void plan(Arena& arena, BatchShape max_shape, const DecoderConfig&) {
    const Index rows = Index{layers_} * max_shape.batch * heads_;
    sums_ = arena.take<Accumulator>(rows);
    // In a plan that is only counted the host takes nothing either.
    if (sums_ != nullptr) host_sums_.resize(static_cast<std::size_t>(rows));
  }

  /// Adds the penalty's gradients; returns the penalty.
  double on_entropies(Device& device, const TrainingPass& pass, Matrix<const Accumulator> entropies,
                      Matrix<Accumulator> d_entropies) {
    const double rows = options_.sums_rows ? 1.0 : static_cast<double>(pass.shape.rows());
    const double scale = options_.coefficient / (static_cast<double>(layers_) * heads_ * rows);
    entropy_penalty(device,
                    EntropyPenalty{max_entropy_, options_.margin * max_entropy_, scale * pass.gradient_scale},
                    heads_, entropies, threshold_.value, sums_, d_entropies, threshold_.gradient);
    const auto count = static_cast<std::size_t>(entropies.rows);
    copy_to_host(device, host_sums_.data(), sums_, count * sizeof(Accumulator));
    double sum = 0;
    for (std::size_t r = 0; r < count; ++r) sum += static_cast<double>(host_sums_[r]);
    return penalty_ = scale * sum;
  }

  /// Calls f(number) for what report() says of the last training pass.
  template <class F>
  void for_each_of_last_pass(const F& f) {
    f(penalty_);
  }

  /// The penalty of the last training pass, and the thresholds by head.
  template <class F>
  void report(const ParameterSet<Device>& parameters, Device& device, const F& f) const {
    const auto thresholds = parameters.read(device, threshold_);
    f("penalty", penalty_);
    f("thresholds", std::vector<double>(thresholds.begin(), thresholds.end()));
  }

 private:
  EntropyGuidedOptions options_;
  Parameter<Device>& threshold_;
  int layers_;
  int heads_;
  double max_entropy_;
  double penalty_ = 0;
  Accumulator* sums_ = nullptr;
  std::vector<Accumulator> host_sums_;
};

}  // namespace lnfree
