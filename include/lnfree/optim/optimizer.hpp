#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>

#include <lnfree/core/error.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/nn/parameter.hpp>

namespace lnfree {

/// x^2 in double, for sum_of.
struct Square {
  static constexpr const char* name = "sum_of_squares";  ///< Its name in profiles.
  static constexpr double operations = 2;                ///< Floating-point operations for an element.
  /// x squared.
  template <class T>
  LNFREE_HOST_DEVICE double operator()(T x) const {
    return static_cast<double>(x) * static_cast<double>(x);
  }
};

/// The Euclidean norm of all gradients of a model together.
template <class Device>
double gradient_norm(Device& device, const ParameterSet<Device>& parameters) {
  return std::sqrt(sum_of(device, parameters.size(), Square{}, parameters.gradients()));
}

/// What torch's clip_grad_norm_ multiplies every gradient by: min(1, max_norm / (norm + 1e-6)); 1 when
/// max_norm is 0, which means no clipping. A norm that is not a number gives that back.
inline double clip_factor(double norm, double max_norm) {
  if (max_norm == 0) return 1;
  const double factor = max_norm / (norm + 1e-6);
  return factor > 1 ? 1 : factor;
}

/// A rule of update as one function of all that an element has. The rule is called as rule(w, g, state...)
/// with the weight, its gradient as it was summed, and what the optimizer keeps; the gradient is left 0.
template <class Rule>
struct ApplyRule : Rule {
  template <class T, class... State>
  LNFREE_HOST_DEVICE void operator()(T& w, T& g, State&... state) const {
    static_cast<const Rule&>(*this)(w, g, state...);
    g = T(0);
  }
};

/// The same where what the forward pass reads is a rounded copy of the weight.
template <class Rule>
struct ApplyRuleAndCopy : Rule {
  template <class T, class... State>
  LNFREE_HOST_DEVICE void operator()(T& w, T& g, T& value, State&... state) const {
    static_cast<const Rule&>(*this)(w, g, state...);
    g = T(0);
    value = w;
  }
};

/// What every optimizer has: a model, named state, a count of updates and clipping. An optimizer derives from
/// it and has, besides,
///
///   name           for trainer.json
///   Options        an aggregate of its settings, with a default for each
///   bytes(plan)    the memory that its state takes, for a model with that plan
///   a constructor  from a model and Options, which asks add_state() for its state
///   step(rate)     one update of every parameter, by way of clipped_step()
///
/// Lives no longer than the model.
template <class Model>
class OptimizerBase {
 public:
  using Device = typename Model::Device;
  using Accumulator = typename Device::Accumulator;
  using Range = typename ParameterSet<Device>::Range;  ///< Parameters of one kind.

  OptimizerBase(const OptimizerBase&) = delete;
  OptimizerBase& operator=(const OptimizerBase&) = delete;

  /// Updates made so far.
  std::int64_t updates() const { return updates_; }
  /// Sets the count, when a run is resumed.
  void set_updates(std::int64_t updates) { updates_ = updates; }

  /// Calls f(name, parameter, values) for each tensor of the state: `values` are those that belong to the
  /// parameter. A checkpoint has them as "name.parameter".
  template <class F>
  void for_each_state(const F& f) const {
    for (const State& state : states_) {
      for (const auto& parameter : model_.parameters().all()) {
        if (parameter.offset >= state.begin && parameter.offset < state.end)
          f(state.name, parameter, state.at(parameter.offset));
      }
    }
  }

 protected:
  /// Throws Error for a model that was built for evaluation: it has no gradients.
  OptimizerBase(Model& model, std::string_view name) : model_(model) {
    if (model.memory().gradients == 0)
      throw Error(std::string(name) + " needs a model built with Purpose::training");
  }

  /// One array of the state, zero at first: a number for each element of the parameters in [begin, end).
  struct State {
    std::string name;  ///< As checkpoints call it.
    /// Which elements of the parameters it belongs to.
    Index begin, end;
    Buffer<Device> memory;  ///< The numbers, on the device.

    /// The numbers from the parameters' element `offset` on.
    Accumulator* at(Index offset) const {
      return static_cast<Accumulator*>(memory.data()) + (offset - begin);
    }
  };

  /// State for the parameters of all kinds from `first` on, in the order of parameter_kinds.
  State& add_state(std::string name, ParameterKind first = parameter_kinds.front()) {
    const Index begin = model_.parameters().range(first).begin, end = model_.parameters().size();
    return states_.emplace_back(
        State{std::move(name), begin, end,
              Buffer<Device>(model_.device(), static_cast<std::size_t>(end - begin) * sizeof(Accumulator))});
  }

  /// Calls body(scale), which updates every parameter from its gradient times `scale`, the clipping. Returns
  /// the gradients' norm before that; when it is not finite nothing is updated, and the gradients are left as
  /// they are to be looked at.
  template <class Body>
  double clipped_step(double max_norm, const Body& body) {
    const double norm = gradient_norm(model_.device(), model_.parameters());
    if (!math::is_finite(norm)) return norm;
    ++updates_;
    body(clip_factor(norm, max_norm));
    return norm;
  }

  /// rule(w, g, state...) for every parameter of a range.
  template <class Rule, class... States>
  void apply(const Range& range, const Rule& rule, const States&... states) {
    auto& parameters = model_.parameters();
    Accumulator* const w = parameters.masters() + range.begin;
    Accumulator* const g = parameters.gradients() + range.begin;
    if constexpr (ParameterSet<Device>::has_master_copy) {
      for_each_element(model_.device(), range.count, ApplyRuleAndCopy<Rule>{rule}, w, g,
                       parameters.values() + range.begin, states.at(range.begin)...);
    } else {
      for_each_element(model_.device(), range.count, ApplyRule<Rule>{rule}, w, g, states.at(range.begin)...);
    }
  }

  /// The model that is trained.
  Model& model() { return model_; }

 private:
  Model& model_;
  std::deque<State> states_;
  std::int64_t updates_ = 0;
};

/// What a Trainer asks of an optimizer.
template <class O, class Model>
concept Optimizer =
    std::derived_from<O, OptimizerBase<Model>> && std::constructible_from<O, Model&, typename O::Options> &&
    requires(O optimizer, double rate) {
      { O::name } -> std::convertible_to<std::string_view>;
      { O::bytes(MemoryPlan{}) } -> std::convertible_to<std::size_t>;
      { optimizer.step(rate) } -> std::same_as<double>;
    };

}  // namespace lnfree
