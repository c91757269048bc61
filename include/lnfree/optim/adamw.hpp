#pragma once

#include <cmath>
#include <cstddef>
#include <string_view>
#include <utility>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/optim/optimizer.hpp>

namespace lnfree {

/// The defaults are the paper's recipe.
struct AdamWOptions {
  double beta1 = 0.9;            ///< Decay of the first moment.
  double beta2 = 0.999;          ///< Decay of the second moment.
  double epsilon = 1e-8;         ///< Added to the root of the second moment.
  double weight_decay = 0.1;     ///< Of weights; biases and norm parameters are never decayed.
  bool decay_slopes = true;      ///< Whether learnable slopes decay like weights, as in the paper's code.
  double max_gradient_norm = 1;  ///< Clips the norm of all gradients together; 0: no clipping.

  /// Calls f(name, value) for each option.
  template <class F>
  void for_each(const F& f) const {
    f("beta1", beta1);
    f("beta2", beta2);
    f("epsilon", epsilon);
    f("weight_decay", weight_decay);
    f("decay_slopes", decay_slopes);
    f("max_gradient_norm", max_gradient_norm);
  }

  /// Whether parameters of this kind decay.
  bool decays(ParameterKind kind) const {
    return is_matrix(kind) || (kind == ParameterKind::slope && decay_slopes);
  }
};

/// One AdamW update as torch.optim.AdamW defines it (Loshchilov and Hutter, 2019), at update t = 1, 2, ...,
/// with the clipped gradient g:
///
///   w -= rate weight_decay w
///   m  = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2
///   w -= rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
template <class T>
struct AdamWRule {
  static constexpr const char* name = "adamw";  ///< Its name in profiles.
  static constexpr double operations = 14;      ///< Floating-point operations for an element.

  /// The numbers of the formula; one_minus_beta1 and one_minus_beta2 are 1 - beta1 and 1 - beta2.
  T beta1, beta2, one_minus_beta1, one_minus_beta2, decay, rate, per_correction2, epsilon, scale;

  /// `t` is the number of the step, from 1; `clip` multiplies every gradient.
  AdamWRule(const AdamWOptions& options, double learning_rate, double weight_decay, double t, double clip)
      : beta1(static_cast<T>(options.beta1)),
        beta2(static_cast<T>(options.beta2)),
        one_minus_beta1(static_cast<T>(1 - options.beta1)),
        one_minus_beta2(static_cast<T>(1 - options.beta2)),
        decay(static_cast<T>(1 - learning_rate * weight_decay)),
        rate(static_cast<T>(learning_rate / (1 - std::pow(options.beta1, t)))),
        per_correction2(static_cast<T>(1 / (1 - std::pow(options.beta2, t)))),
        epsilon(static_cast<T>(options.epsilon)),
        scale(static_cast<T>(clip)) {}

  LNFREE_HOST_DEVICE void operator()(T& w, T gradient, T& m, T& v) const {
    const T g = gradient * scale;
    m = beta1 * m + one_minus_beta1 * g;
    v = beta2 * v + one_minus_beta2 * g * g;
    w = decay * w - rate * m / (math::sqrt(v * per_correction2) + epsilon);
  }
};

/// AdamW over all parameters of a model, clipping included.
template <class Model>
class AdamW : public OptimizerBase<Model> {
 public:
  static constexpr std::string_view name = "adamw";
  using Options = AdamWOptions;

  /// For the parameters of `model`, which must outlive it.
  explicit AdamW(Model& model, const Options& options = {}, Share share = {})
      : OptimizerBase<Model>(model, "AdamW", std::move(share)),
        options_(options),
        m_(this->add_state("m")),
        v_(this->add_state("v")) {}

  /// Two moments, each laid out like the gradients.
  static std::size_t bytes(const MemoryPlan& model) { return 2 * model.gradients; }

  double step(double learning_rate) {
    return this->clipped_step(options_.max_gradient_norm, [&](double scale) {
      const auto t = static_cast<double>(this->updates());
      for (const auto& range : this->model().parameters().ranges()) {
        const double decay = options_.decays(range.kind) ? options_.weight_decay : 0;
        this->apply(range, AdamWRule<typename Model::Accumulator>(options_, learning_rate, decay, t, scale),
                    m_, v_);
      }
    });
  }

 private:
  using State = typename OptimizerBase<Model>::State;

  Options options_;
  State &m_, &v_;  // first and second moments
};

}  // namespace lnfree
