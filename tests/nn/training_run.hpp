#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/nn/decoder.hpp>
#include <lnfree/optim/adamw.hpp>
#include <lnfree/optim/schedule.hpp>

#include "support/random_batch.hpp"

/// The training of a whole model on one device, compared with another.
namespace lnfree::test {

using Tensors = std::vector<std::pair<std::string, std::vector<double>>>;

/// The course of a model from its seed: its weights, the loss, gradients and entropies of a batch, the losses
/// and gradient norms of ten training steps, and the weights after them.
struct TrainingRun {
  Tensors weights, gradients;
  double loss;
  std::vector<std::vector<double>> entropies;
  std::int64_t nonfinite_rows;
  std::vector<double> losses, norms;
  Tensors trained;
};

/// Models of one device, observer and objective share the code, whatever their architecture.
template <class Device, class Observer, template <class> class Objective>
TrainingRun training_run(DynamicDecoder<Device, Observer, Objective>& model, const RandomBatch& random,
                         double peak_learning_rate) {
  TrainingRun run;
  if constexpr (requires { model.objective().options(); }) model.objective().options().coefficient = 1e-2;
  auto& parameters = model.parameters();
  const auto read = [&](const auto* array) {
    Tensors tensors;
    for (const auto& p : parameters.all()) {
      if (p.kind == ParameterKind::setting) continue;  // has no gradient, and nothing changes it here
      const auto values = parameters.read(model.device(), p, array);
      tensors.emplace_back(p.name, std::vector<double>(values.begin(), values.end()));
    }
    return tensors;
  };
  model.initialize(5);
  run.weights = read(parameters.masters());
  run.loss = model.forward_backward(random.batch(), {.gradient_scale = 0.5, .dropout = {0.1, 7, 1}});
  run.gradients = read(parameters.gradients());
  run.entropies = model.observer().head_entropy();
  run.nonfinite_rows = model.observer().nonfinite_rows();

  parameters.zero_gradients(model.device());
  AdamW optimizer(model);
  const WarmupLinearSchedule schedule{.peak = peak_learning_rate, .warmup_ratio = 0.2, .steps = 10};
  for (int step = 0; step < 10; ++step) {
    const PassOptions pass{.dropout = {0.1, 7, static_cast<std::uint64_t>(step)}};
    run.losses.push_back(model.forward_backward(random.batch(), pass));
    run.norms.push_back(optimizer.step(schedule(step)));
  }
  run.trained = read(parameters.masters());
  return run;
}

template <class Model>
TrainingRun training_run(const RandomBatch& random, double peak_learning_rate = 1e-2) {
  Model model(random.shape.batch);
  return training_run(model, random, peak_learning_rate);
}

/// How much runs may differ: relative, but entropies in nats.
struct TrainingBounds {
  double loss = 1e-5;
  double gradient = 1e-4;         ///< Of ||g - g'|| / ||g'||, for each tensor.
  std::size_t least_numbers = 1;  ///< Of a tensor whose gradient is compared.
  double entropy = 1e-5;
  double trained_loss = 1e-4;  ///< And of all losses on the way.
  double norm = 1e-3;          ///< Of the gradients' norms on the way.
};

inline double relative_distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(norm == 0 ? difference : difference / norm);
}

/// Compares a run with one of the same or higher precision.
inline void compare(const TrainingRun& device, const TrainingRun& exact, const TrainingBounds& bounds = {}) {
  const auto close = [](double a, double b, double bound) { return std::abs(a - b) <= bound * std::abs(b); };
  BOOST_REQUIRE_EQUAL(device.weights.size(), exact.weights.size());
  for (std::size_t p = 0; p < exact.weights.size(); ++p) {
    const auto& [name, weights] = exact.weights[p];
    BOOST_TEST(device.weights[p].first == name);
    const std::vector<float> rounded(weights.begin(), weights.end());
    BOOST_TEST((device.weights[p].second == std::vector<double>(rounded.begin(), rounded.end())), name);
    if (weights.size() < bounds.least_numbers) continue;
    const double error = relative_distance(device.gradients[p].second, exact.gradients[p].second);
    BOOST_TEST(error < bounds.gradient, name << ": gradient off by " << error);
  }
  BOOST_TEST(close(device.loss, exact.loss, bounds.loss), "loss " << device.loss << ", not " << exact.loss);
  for (std::size_t l = 0; l < exact.entropies.size(); ++l) {
    for (std::size_t h = 0; h < exact.entropies[l].size(); ++h) {
      const double ours = device.entropies[l][h], expected = exact.entropies[l][h];
      BOOST_TEST(std::abs(ours - expected) < bounds.entropy, "entropy " << ours << ", not " << expected);
    }
  }
  BOOST_TEST(device.nonfinite_rows == 0);
  for (std::size_t step = 0; step < exact.losses.size(); ++step) {
    BOOST_TEST(close(device.losses[step], exact.losses[step], bounds.trained_loss),
               "step " << step << ": loss " << device.losses[step] << ", not " << exact.losses[step]);
    BOOST_TEST(close(device.norms[step], exact.norms[step], bounds.norm),
               "step " << step << ": gradient norm " << device.norms[step] << ", not " << exact.norms[step]);
  }
  BOOST_TEST(device.losses.back() < device.losses.front());
}

}  // namespace lnfree::test
