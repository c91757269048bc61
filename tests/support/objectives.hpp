#pragma once

#include <string_view>

#include <lnfree/core/config.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/objective/objective.hpp>

/// Objectives as a user of the library would write them.
namespace lnfree::test {

struct Squared {
  template <class T>
  LNFREE_HOST_DEVICE T operator()(T x) const {
    return x * x;
  }
};

/// d += 2 scale x.
struct AddSlopeOfSquare {
  double scale;
  template <class T>
  LNFREE_HOST_DEVICE void operator()(T x, T& d) const {
    d += static_cast<T>(2 * scale) * x;
  }
};

/// Adds the gradient of `factor` times the mean square of x to d_x, and returns that term.
template <class Device, class Scalar>
double penalize_square(Device& device, const TrainingPass& pass, double factor, Matrix<const Scalar> x,
                       Matrix<Scalar> d_x) {
  const double scale = factor / static_cast<double>(x.size());
  for_each_element(device, x.size(), AddSlopeOfSquare{pass.gradient_scale * scale}, x.data, d_x.data);
  return scale * sum_of(device, x.size(), Squared{}, x.data);
}

/// The cross-entropy and, for every layer, a tenth of the mean square of its hidden layer.
template <class Device>
struct PenalizedHidden {
  using Scalar = typename Device::Scalar;
  static constexpr std::string_view name = "penalized_hidden";

  PenalizedHidden(ParameterSet<Device>&, const DecoderConfig&) {}

  double on_hidden(Device& device, const TrainingPass& pass, int /*layer*/, Matrix<const Scalar> hidden,
                   Matrix<Scalar> d_hidden) {
    return penalize_square(device, pass, 0.1, hidden, d_hidden);
  }
};

/// The cross-entropy and (mean square of the last stream - target)^2, with a learned target.
template <class Device>
struct PenalizedStream {
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;
  static constexpr std::string_view name = "penalized_stream";

  PenalizedStream(ParameterSet<Device>& parameters, const DecoderConfig&)
      : target_(parameters.add("stream_target", {1}, ParameterKind::threshold, 0.5)) {}

  double on_stream(Device& device, const TrainingPass& pass, Matrix<const Scalar> x, Matrix<Scalar> d_x) {
    Scalar target;
    copy_to_host(device, &target, target_.value, sizeof target);
    const double per_element = 1 / static_cast<double>(x.size());
    const double deviation =
        per_element * sum_of(device, x.size(), Squared{}, x.data) - static_cast<double>(target);
    for_each_element(device, x.size(), AddSlopeOfSquare{pass.gradient_scale * 2 * deviation * per_element},
                     x.data, d_x.data);
    for_each_element(device, 1, Add{-2 * deviation * pass.gradient_scale}, target_.gradient);
    return deviation * deviation;
  }

  struct Add {
    double amount;
    template <class T>
    LNFREE_HOST_DEVICE void operator()(T& x) const {
      x += static_cast<T>(amount);
    }
  };

 private:
  Parameter<Device>& target_;
};

/// The cross-entropy and a hundred times the mean squares of every hidden layer, of the stream after every
/// layer, and of the last stream.
template <class Device>
struct PenalizedEverywhere {
  using Scalar = typename Device::Scalar;
  static constexpr std::string_view name = "penalized_everywhere";
  static constexpr double factor = 100;  // large enough to change the scales of gradients

  PenalizedEverywhere(ParameterSet<Device>&, const DecoderConfig&) {}

  double on_hidden(Device& device, const TrainingPass& pass, int /*layer*/, Matrix<const Scalar> hidden,
                   Matrix<Scalar> d_hidden) {
    return penalize_square(device, pass, factor, hidden, d_hidden);
  }
  double on_state(Device& device, const TrainingPass& pass, int /*layer*/, Matrix<const Scalar> x,
                  Matrix<Scalar> d_x) {
    return penalize_square(device, pass, factor, x, d_x);
  }
  double on_stream(Device& device, const TrainingPass& pass, Matrix<const Scalar> x, Matrix<Scalar> d_x) {
    return penalize_square(device, pass, factor, x, d_x);
  }
};

/// Half the cross-entropy of the targets: in place of the library's.
template <class Device>
struct HalvedLoss {
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;
  static constexpr std::string_view name = "halved_loss";

  HalvedLoss(ParameterSet<Device>&, const DecoderConfig&) {}

  double on_logits(Device& device, const TrainingPass& pass, Index first_row, Matrix<Scalar> logits,
                   Accumulator* losses) {
    cross_entropy_forward_backward(device, logits, pass.targets + first_row, losses, 0.5 * pass.loss_scale);
    const Accumulator* const of_rows = losses;
    return -0.5 * (pass.loss_scale / pass.gradient_scale) * sum_of(device, logits.rows, Value{}, of_rows);
  }

  struct Value {
    template <class T>
    LNFREE_HOST_DEVICE T operator()(T x) const {
      return x;
    }
  };
};

}  // namespace lnfree::test
