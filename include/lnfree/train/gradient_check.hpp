#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <type_traits>
#include <vector>

#include <lnfree/core/macros.hpp>
#include <lnfree/nn/decoder.hpp>
// For Reference<double>, on which a model is checked. nvcc does not compile Eigen.
#if !LNFREE_GPU_COMPILER
#include <lnfree/device/eigen/eigen.hpp>
#endif

namespace lnfree {

/// How thoroughly gradients are checked.
struct GradientCheckOptions {
  std::uint64_t seed = 1;  ///< Seed of parameters, tokens and dropout.
  int batch = 2;           ///< Sequences in the batch.
  int elements = 12;       ///< At least so many are checked in each parameter, at equal distances; all if it
                           ///< has fewer than twice as many.
  double step = 1e-5;      ///< The step h of the central difference.
  double dropout = 0;      ///< Rate of the embedding's dropout.
};

/// How far one parameter's gradient is from the finite difference.
struct GradientError {
  std::string parameter;  ///< The name of the parameter.
  Index element = 0;      ///< The element with the largest error.
  double gradient = 0;    ///< The gradient that the model computed.
  double difference = 0;  ///< (loss(p + h) - loss(p - h)) / 2 h.
  double error = 0;       ///< |gradient - difference| / (|gradient| + |difference| + 1e-4).
};

/// The worst element of each parameter.
struct GradientReport {
  /// One entry for each parameter, in the model's order.
  std::vector<GradientError> parameters;

  /// The largest error of all; not finite if one of them is not.
  double worst() const {
    double worst = 0;
    for (const auto& p : parameters) worst = !math::is_finite(p.error) ? p.error : std::max(worst, p.error);
    return worst;
  }

  /// A line for each parameter.
  std::string text() const {
    std::string text;
    for (const auto& p : parameters) {
      char numbers[128];
      std::snprintf(numbers, sizeof(numbers), "[%lld]: gradient %.6e, difference %.6e, error %.1e\n",
                    static_cast<long long>(p.element), p.gradient, p.difference, p.error);
      text += p.parameter + numbers;
    }
    return text;
  }
};

namespace detail {

/// gradient_check of a model that has its initial weights. Models of one device, observer and objective share
/// it, whatever their architecture.
template <class Device, class Observer, template <class> class Objective>
GradientReport check_gradients(DynamicDecoder<Device, Observer, Objective>& model,
                               const GradientCheckOptions& options) {
  auto& parameters = model.parameters();
  auto& device = model.device();
  // Gains, biases and slopes are moved away from their initial values, at which errors can cancel.
  for (auto& parameter : parameters.all()) {
    std::vector<double> value = parameters.read(device, parameter), noise(value.size());
    fill_normal(noise.data(), parameter.size(), 0.1, Philox(options.seed + 1, stream_of(parameter.name)));
    for (std::size_t i = 0; i < static_cast<std::size_t>(parameter.trainable); ++i) value[i] += noise[i];
    parameters.write(device, parameter, value.data());
  }

  const BatchShape shape{options.batch, model.config.context};
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(shape.rows())), targets(tokens.size());
  const auto vocab_size = static_cast<std::uint32_t>(model.config.vocab_size);
  const Philox random(options.seed, stream_of("tokens"));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto draw = random(i);
    tokens[i] = static_cast<std::int32_t>(draw[0] % vocab_size);
    targets[i] = draw[1] % 8 == 0 ? -1 : static_cast<std::int32_t>(draw[2] % vocab_size);
  }
  const Batch batch{shape, tokens, targets};
  const PassOptions pass{.dropout = {options.dropout, options.seed, 0}};

  parameters.zero_gradients(device);
  model.forward_backward(batch, pass);
  std::vector<std::vector<double>> gradients;
  for (const auto& p : parameters.all())
    gradients.push_back(parameters.read(device, p, parameters.gradients()));

  GradientReport report;
  for (std::size_t p = 0; p < parameters.all().size(); ++p) {
    auto& parameter = parameters.all()[p];
    if (parameter.kind == ParameterKind::setting) continue;
    const auto& gradient = gradients[p];
    std::vector<double> value = parameters.read(device, parameter);
    GradientError worst{.parameter = parameter.name, .error = -1};
    const auto stride = static_cast<std::size_t>(std::max(Index{1}, parameter.size() / options.elements));
    for (std::size_t i = 0; i < value.size(); i += stride) {
      const auto loss_at = [&](double x) {
        const double kept = value[i];
        value[i] = x;
        parameters.write(device, parameter, value.data());
        value[i] = kept;
        return model.forward_backward(batch, pass) + model.penalty();
      };
      const double difference =
          (loss_at(value[i] + options.step) - loss_at(value[i] - options.step)) / (2 * options.step);
      const double error =
          std::abs(gradient[i] - difference) / (std::abs(gradient[i]) + std::abs(difference) + 1e-4);
      if (error > worst.error || !math::is_finite(error))
        worst = {parameter.name, static_cast<Index>(i), gradient[i], difference, error};
    }
    parameters.write(device, parameter, value.data());
    report.parameters.push_back(worst);
  }
  return report;
}

}  // namespace detail

/// Compares a model's gradients with central differences of what it minimizes, on random tokens and
/// parameters. `Model` is a Decoder in double, such as Decoder<tiny, MyNorm, MyActivation,
/// Reference<double>>; correct gradients agree to better than 1e-6. `prepare` is first called on the model.
template <class Model, class Prepare = decltype([](Model&) {})>
GradientReport gradient_check(const GradientCheckOptions& options = {}, const Prepare& prepare = {}) {
  static_assert(std::is_same_v<typename Model::Scalar, double>,
                "lnfree: gradient_check needs a model in double, for example on Reference<double>");
  Model model(options.batch);
  prepare(model);
  model.initialize(options.seed);
  return detail::check_gradients(model, options);
}

}  // namespace lnfree
