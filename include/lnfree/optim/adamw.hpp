#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <lnfree/core/adamw_step.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/optim/gradient_clipping.hpp>

namespace lnfree {

/// The defaults are the paper's recipe.
struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.1;     ///< Of weights; biases and norm parameters are never decayed.
  bool decay_slopes = true;      ///< Whether learnable slopes decay like weights: the paper's code does that.
  double max_gradient_norm = 1;  ///< Clips the norm of all gradients together; 0: no clipping.
};

/// AdamW over all parameters of a model, clipping included. Lives no longer than the model.
template <class Model>
class AdamW {
 public:
  using Device = typename Model::Device;
  using Accumulator = typename Device::Accumulator;

  /// Throws Error for a model that was built for evaluation: it has no gradients.
  explicit AdamW(Model& model, const AdamWOptions& options = {})
      : model_(model),
        options_(options),
        m_(model.device(), bytes(model.memory()) / 2),
        v_(model.device(), bytes(model.memory()) / 2) {
    if (model.memory().gradients == 0) throw Error("AdamW needs a model built with Purpose::training");
  }

  /// What the optimizer of a model with this plan takes: two moments, each laid out like the gradients.
  static std::size_t bytes(const MemoryPlan& model) { return 2 * model.gradients; }

  /// Clips the gradients, updates every parameter, leaves the gradients zero. Returns the gradients' norm
  /// before clipping; when that is not finite nothing is updated, and the gradients are left as they are to
  /// be looked at.
  double step(double learning_rate) {
    auto& parameters = model_.parameters();
    const double norm = gradient_norm(model_.device(), parameters);
    if (!math::is_finite(norm)) return norm;
    ++updates_;
    const double t = static_cast<double>(updates_);
    AdamWStep step{.learning_rate = learning_rate,
                   .beta1 = options_.beta1,
                   .beta2 = options_.beta2,
                   .epsilon = options_.epsilon,
                   .weight_decay = 0,
                   .gradient_scale = clip_factor(norm, options_.max_gradient_norm),
                   .correction1 = 1 - std::pow(options_.beta1, t),
                   .correction2 = 1 - std::pow(options_.beta2, t)};
    for (const auto& range : parameters.ranges()) {
      step.weight_decay = decays(range.kind) ? options_.weight_decay : 0;
      adamw(model_.device(), range.count, parameters.masters() + range.begin,
            parameters.values() + range.begin, parameters.gradients() + range.begin, m() + range.begin,
            v() + range.begin, step);
    }
    return norm;
  }

  /// Updates made so far, t of the bias correction.
  std::int64_t updates() const { return updates_; }
  void set_updates(std::int64_t updates) { updates_ = updates; }

  /// First and second moments, laid out like the parameters.
  Accumulator* m() const { return static_cast<Accumulator*>(m_.data()); }
  Accumulator* v() const { return static_cast<Accumulator*>(v_.data()); }

 private:
  bool decays(ParameterKind kind) const {
    return kind == ParameterKind::weight || (kind == ParameterKind::slope && options_.decay_slopes);
  }

  Model& model_;
  AdamWOptions options_;
  Buffer<Device> m_, v_;
  std::int64_t updates_ = 0;
};

}  // namespace lnfree
