#include <lnfree/optim/adamw.hpp>

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/activation/leaky_learnable.hpp>
#include <lnfree/device/cpu/cpu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

#include "optim/tensors.hpp"
#include "support/seed.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

/// Has parameters of all four kinds.
template <class Device>
using Learning = Decoder<tiny, LayerNorm, LeakyLearnable<Scope::per_layer>, Device, NoObserver>;

/// AdamW as torch.optim.AdamW and clip_grad_norm_ define it, in double, tensor by tensor.
class IndependentAdamW {
 public:
  using Tensors = TensorsByName;

  IndependentAdamW(Tensors weights, const AdamWOptions& options)
      : weights_(std::move(weights)), options_(options) {}

  void step(const Tensors& gradients, double learning_rate) {
    double squares = 0;
    for (const auto& [name, gradient] : gradients) {
      for (const double g : gradient) squares += g * g;
    }
    const double limit = options_.max_gradient_norm;
    const double clip = limit > 0 ? std::min(1.0, limit / (std::sqrt(squares) + 1e-6)) : 1.0;
    ++t_;
    for (auto& [name, w] : weights_) {
      auto& m = m_[name];
      auto& v = v_[name];
      m.resize(w.size());
      v.resize(w.size());
      for (std::size_t i = 0; i < w.size(); ++i) {
        const double g = gradients.at(name)[i] * clip;
        w[i] *= 1 - learning_rate * decay_of(name);
        m[i] = options_.beta1 * m[i] + (1 - options_.beta1) * g;
        v[i] = options_.beta2 * v[i] + (1 - options_.beta2) * g * g;
        const double m_hat = m[i] / (1 - std::pow(options_.beta1, t_));
        const double v_hat = v[i] / (1 - std::pow(options_.beta2, t_));
        w[i] -= learning_rate * m_hat / (std::sqrt(v_hat) + options_.epsilon);
      }
    }
  }

  const Tensors& weights() const { return weights_; }

 private:
  /// By name: biases and LayerNorms (ln_1, ln_2, ln_f) do not decay.
  double decay_of(const std::string& name) const {
    if (name.ends_with(".bias") || name.find("ln_") != std::string::npos) return 0;
    if (name.ends_with(".slope") && !options_.decay_slopes) return 0;
    return options_.weight_decay;
  }

  Tensors weights_, m_, v_;
  AdamWOptions options_;
  int t_ = 0;
};

template <class Device>
double worst_after_ten_steps(const AdamWOptions& options, double gradient_std) {
  Learning<Device> model(1);
  draw_weights(model, 0.3);
  AdamW optimizer(model, options);
  IndependentAdamW independent(read(model), options);
  for (int step = 0; step < 10; ++step) {
    const double learning_rate = 0.01 * (step + 1);
    const auto gradients = draw_gradients(model, gradient_std, step);
    optimizer.step(learning_rate);
    independent.step(gradients, learning_rate);
  }
  BOOST_TEST(optimizer.updates() == 10);
  const auto ours = read(model);
  double worst = 0;
  for (const auto& [name, expected] : independent.weights()) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double error = std::abs(ours.at(name)[i] - expected[i]);
      worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
    }
  }
  return worst;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(adamw)

BOOST_AUTO_TEST_CASE(ten_steps_as_torch_defines_them) {
  LNFREE_LOG_SEED();
  for (const double gradient_std : {0.5, 1e-4}) {  // clipped, and not
    for (const bool decay_slopes : {true, false}) {
      for (const double max_norm : {1.0, 0.0}) {
        const AdamWOptions options{.decay_slopes = decay_slopes, .max_gradient_norm = max_norm};
        BOOST_TEST(worst_after_ten_steps<Reference<double>>(options, gradient_std) < 1e-12);
        BOOST_TEST(worst_after_ten_steps<Cpu>(options, gradient_std) < 2e-5);
      }
    }
  }
  BOOST_TEST(worst_after_ten_steps<Reference<double>>({.beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-3}, 0.5) <
             1e-12);
}

// Without a gradient only decay changes a weight, which shows what decays.
BOOST_AUTO_TEST_CASE(decay_groups) {
  for (const bool decay_slopes : {true, false}) {
    Learning<Reference<double>> model(1);
    model.initialize(3);
    for (auto& p : model.parameters().all()) {
      const std::vector<double> ones(p.size(), 1.0);
      model.parameters().write(model.device(), p, ones.data());
    }
    AdamW(model, {.weight_decay = 0.5, .decay_slopes = decay_slopes}).step(0.1);
    for (const auto& [name, values] : read(model)) {
      const bool norm_or_bias = name.ends_with(".bias") || name.find("ln_") != std::string::npos;
      const bool spared = norm_or_bias || (name.ends_with(".slope") && !decay_slopes);
      BOOST_TEST(values.front() == (spared ? 1.0 : 0.95), name);
    }
  }
}

BOOST_AUTO_TEST_CASE(returns_the_norm_and_leaves_no_gradient) {
  LNFREE_LOG_SEED();
  Learning<Cpu> model(1);
  model.initialize(1);
  double squares = 0;
  for (const auto& [name, gradient] : draw_gradients(model, 0.1, 0)) {
    for (const double g : gradient) squares += g * g;
  }
  AdamW optimizer(model);
  BOOST_TEST(optimizer.step(1e-3) == std::sqrt(squares), boost::test_tools::tolerance(1e-6));
  BOOST_TEST(gradient_norm(model.device(), model.parameters()) == 0.0);
}

BOOST_AUTO_TEST_CASE(a_gradient_that_is_not_finite_changes_nothing) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Learning<Cpu> model(1);
    model.initialize(1);
    draw_gradients(model, 0.1, 0);
    auto& p = model.parameters().all().back();
    copy_to_device(model.device(), p.gradient, &bad, sizeof bad);
    const auto before = read(model);
    AdamW optimizer(model);
    BOOST_TEST(!std::isfinite(optimizer.step(1e-3)));
    BOOST_TEST((read(model) == before));
    BOOST_TEST(optimizer.updates() == 0);
    BOOST_TEST(!std::isfinite(gradient_norm(model.device(), model.parameters())));
  }
}

BOOST_AUTO_TEST_CASE(clip_factor_is_torchs) {
  BOOST_TEST(clip_factor(0.5, 1) == 1.0);
  BOOST_TEST(clip_factor(4, 1) == 1 / (4 + 1e-6));
  BOOST_TEST(clip_factor(4, 2) == 2 / (4 + 1e-6));
  BOOST_TEST(clip_factor(4, 0) == 1.0);
}

BOOST_AUTO_TEST_SUITE_END()
