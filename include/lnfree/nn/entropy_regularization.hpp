#pragma once

#include <cmath>
#include <vector>

#include <lnfree/backend/primitives.hpp>
#include <lnfree/core/config.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/observer/entropy_regularizer.hpp>

namespace lnfree {

/// The entropy-guided loss of an EntropyRegularizer: its thresholds and its gradient with respect to the
/// entropies of all layers.
template <class Device>
class EntropyRegularization {
 public:
  using Accumulator = typename Device::Accumulator;

  /// Where a head's threshold starts: half the largest entropy.
  static constexpr double initial_threshold = 0.5;

  EntropyRegularization(ParameterSet<Device>& parameters, const DecoderConfig& config)
      : threshold_(
            parameters.add("entropy_threshold", {config.heads}, ParameterKind::threshold, initial_threshold)),
        layers_(config.layers),
        heads_(config.heads),
        most_(std::log(static_cast<double>(config.context))) {}

  /// Reserves the gradients (L, B, H, T) and a sum for each of their rows.
  void plan(Arena& arena, BatchShape most) {
    d_rows_ = arena.take<Accumulator>(layers_ * most.rows() * heads_);
    sums_ = arena.take<Accumulator>(Index{layers_} * most.batch * heads_);
    if (sums_ != nullptr)  // in a plan that is only counted the host takes nothing either
      host_sums_.resize(static_cast<std::size_t>(Index{layers_} * most.batch * heads_));
  }

  /// From entropies (L B H, T) to their gradients and those of the thresholds, all times gradient_scale;
  /// returns the penalty. Takes no memory.
  double forward_backward(Device& device, BatchShape shape, const EntropyRegularizerOptions& options,
                          Matrix<const Accumulator> entropies, double gradient_scale) {
    const double rows = options.sums_rows ? 1.0 : static_cast<double>(shape.rows());
    const double scale = options.coefficient / (static_cast<double>(layers_) * heads_ * rows);
    entropy_penalty(device, EntropyPenalty{most_, options.margin * most_, scale * gradient_scale}, heads_,
                    entropies, threshold_.value, sums_,
                    Matrix<Accumulator>(d_rows_, entropies.rows, entropies.cols), threshold_.gradient);
    const auto count = static_cast<std::size_t>(entropies.rows);
    copy_to_host(device, host_sums_.data(), sums_, count * sizeof(Accumulator));
    double sum = 0;
    for (std::size_t r = 0; r < count; ++r) sum += static_cast<double>(host_sums_[r]);
    return scale * sum;
  }

  /// What forward_backward left, (L B H, T).
  const Accumulator* d_rows() const { return d_rows_; }

 private:
  Parameter<Device>& threshold_;
  int layers_;
  int heads_;
  double most_;
  Accumulator* d_rows_ = nullptr;
  Accumulator* sums_ = nullptr;
  std::vector<Accumulator> host_sums_;
};

}  // namespace lnfree
