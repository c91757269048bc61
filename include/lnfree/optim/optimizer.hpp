#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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

/// Which of a model's parameters this process' optimizer updates when several processes share them, and how
/// the norm of all gradients is computed. By default it updates everything, and the norm is one sum.
struct Share {
  Index begin = 0;                                ///< First element of the parameters in this share.
  Index end = std::numeric_limits<Index>::max();  ///< The element behind the last.
  std::vector<Index> cuts = {};  ///< Where the sum of squared gradients is cut into parts, if at all.
  int first_part = 0;            ///< The first part in this share.
  int end_part = std::numeric_limits<int>::max();  ///< The part behind the last.
  /// Takes the partial sums of this share and returns those of all shares in order; empty if this share is
  /// everything.
  std::function<std::vector<double>(const std::vector<double>&)> complete = {};
  /// Gathers elements [offset, offset + count) of an array laid out like the parameters into `numbers`, of
  /// which each process has those in its share. All processes call it; the first gets the whole.
  std::function<void(Index offset, Index count, std::size_t bytes_of_one, void* numbers)> collect = {};

  /// The part of elements [offset, offset + count) that lies in this share, empty at its end if none.
  std::pair<Index, Index> within(Index offset, Index count) const {
    const Index first = std::clamp(begin, offset, offset + count);
    return {first, std::clamp(end, first, offset + count) - first};
  }

  /// The Euclidean norm of all gradients of a model together.
  template <class Device>
  double gradient_norm(Device& device, const ParameterSet<Device>& parameters) const {
    if (cuts.empty()) return lnfree::gradient_norm(device, parameters);
    std::vector<double> parts;
    const auto last = std::min(static_cast<std::size_t>(end_part), cuts.size() - 1);
    for (auto i = static_cast<std::size_t>(first_part); i < last; ++i) {
      const Index count = cuts[i + 1] - cuts[i];
      parts.push_back(count == 0 ? 0 : sum_of(device, count, Square{}, parameters.gradients() + cuts[i]));
    }
    if (complete) parts = complete(parts);
    double sum = 0;
    for (const double part : parts) sum += part;
    return std::sqrt(sum);
  }
};

/// What torch's clip_grad_norm_ multiplies every gradient by: min(1, max_norm / (norm + 1e-6)); 1 when
/// max_norm is 0, which means no clipping. NaN if the norm is NaN.
inline double clip_factor(double norm, double max_norm) {
  if (max_norm == 0) return 1;
  const double factor = max_norm / (norm + 1e-6);
  return factor > 1 ? 1 : factor;
}

/// Applies an update rule to one element: calls rule(w, g, state...) with the weight, its accumulated
/// gradient and the optimizer state, and then zeroes the gradient.
template <class Rule>
struct ApplyRule : Rule {
  template <class T, class... State>
  LNFREE_HOST_DEVICE void operator()(T& w, T& g, State&... state) const {
    static_cast<const Rule&>(*this)(w, g, state...);
    g = T(0);
  }
};

/// The same for weights of which the forward pass reads a rounded copy.
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
/// it and adds
///
///   name           for trainer.json
///   Options        an aggregate of its settings, with a default for each
///   bytes(plan)    the size of its state, for a model with that plan
///   a constructor  from a model and Options, which creates its state by add_state()
///   step(rate)     one update of every parameter, by way of clipped_step()
///
/// An optimizer whose constructor also takes a Share, and passes it on, can shard its state over processes.
/// If it declares a constant `whole_matrices` that is true, no weight matrix is split. The model must outlive
/// it.
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

  /// Calls f(name, parameter, values) for each tensor of the state: `values` belong to the parameter, or to
  /// the part of it in this process' share. A checkpoint stores them as "name.parameter".
  template <class F>
  void for_each_state(const F& f) const {
    for (const State& state : states_) {
      for (const auto& parameter : model_.parameters().all()) {
        if (parameter.offset < state.begin || parameter.offset >= state.end) continue;
        f(state.name, parameter, state.at(share_.within(parameter.offset, parameter.size()).first));
      }
    }
  }

  /// Copies a tensor of for_each_state() to the host. If processes share the state, all call it and the first
  /// gets the whole tensor.
  std::vector<Accumulator> read_state(const Parameter<Device>& parameter, const Accumulator* values) const {
    std::vector<Accumulator> host(static_cast<std::size_t>(parameter.size()));
    const auto [first, count] = share_.within(parameter.offset, parameter.size());
    if (count > 0) {
      copy_to_host(model_.device(), host.data() + (first - parameter.offset), values,
                   static_cast<std::size_t>(count) * sizeof(Accumulator));
    }
    if (share_.collect) share_.collect(parameter.offset, parameter.size(), sizeof(Accumulator), host.data());
    return host;
  }

  /// Sets a tensor of for_each_state() from the whole tensor on the host.
  void write_state(const Parameter<Device>& parameter, Accumulator* values, const Accumulator* from) {
    const auto [first, count] = share_.within(parameter.offset, parameter.size());
    if (count == 0) return;
    copy_to_device(model_.device(), values, from + (first - parameter.offset),
                   static_cast<std::size_t>(count) * sizeof(Accumulator));
  }

 protected:
  /// Throws Error for a model that was built for evaluation: it has no gradients.
  OptimizerBase(Model& model, std::string_view name, Share share = {})
      : model_(model), share_(std::move(share)) {
    if (model.memory().gradients == 0)
      throw Error(std::string(name) + " needs a model built with Purpose::training");
  }

  /// One array of the state, zero at first: a number for each element of the parameters in [begin, end) that
  /// lies in this process' share.
  struct State {
    std::string name;       ///< As checkpoints call it.
    Index begin;            ///< First element of the parameters that it belongs to.
    Index end;              ///< The element behind the last.
    Index first;            ///< First element that lies in the share.
    Buffer<Device> memory;  ///< The numbers, on the device.

    /// The state from element `offset` of the parameters on.
    Accumulator* at(Index offset) const {
      return memory.bytes() == 0 ? nullptr : static_cast<Accumulator*>(memory.data()) + (offset - first);
    }
  };

  /// State for the parameters of all kinds from `from` on, in the order of parameter_kinds.
  State& add_state(std::string name, ParameterKind from = parameter_kinds.front()) {
    const Index begin = model_.parameters().range(from).begin, end = model_.parameters().size();
    const auto [first, count] = share_.within(begin, end - begin);
    return states_.emplace_back(
        State{std::move(name), begin, end, first,
              Buffer<Device>(model_.device(), static_cast<std::size_t>(count) * sizeof(Accumulator))});
  }

  /// Calls body(scale), which updates every parameter from its gradient times `scale`, the clip factor.
  /// Returns the gradient norm before clipping. If it is not finite, nothing is updated and the gradients are
  /// left for inspection.
  template <class Body>
  double clipped_step(double max_norm, const Body& body) {
    const double norm = share_.gradient_norm(model_.device(), model_.parameters());
    if (!math::is_finite(norm)) return norm;
    ++updates_;
    body(clip_factor(norm, max_norm));
    model_.parameters().count_write();
    return norm;
  }

  /// Calls rule(w, g, state...) for every parameter of a range that lies in this process' share. Settings are
  /// not updated.
  template <class Rule, class... States>
  void apply(const Range& range, const Rule& rule, const States&... states) {
    if (range.kind == ParameterKind::setting) return;
    auto& parameters = model_.parameters();
    const auto [begin, count] = share_.within(range.begin, range.count);
    if (count == 0) return;
    Accumulator* const w = parameters.masters() + begin;
    Accumulator* const g = parameters.gradients() + begin;
    if constexpr (ParameterSet<Device>::has_master_copy) {
      for_each_element(model_.device(), count, ApplyRuleAndCopy<Rule>{rule}, w, g,
                       parameters.values() + begin, states.at(begin)...);
    } else {
      for_each_element(model_.device(), count, ApplyRule<Rule>{rule}, w, g, states.at(begin)...);
    }
  }

  /// The part of the model's parameters that this process updates.
  const Share& share() const { return share_; }

  /// The model that is trained.
  Model& model() { return model_; }

 private:
  Model& model_;
  Share share_;
  std::deque<State> states_;
  std::int64_t updates_ = 0;
};

/// What a Trainer requires of an optimizer.
template <class O, class Model>
concept Optimizer =
    std::derived_from<O, OptimizerBase<Model>> && std::constructible_from<O, Model&, typename O::Options> &&
    requires(O optimizer, double rate) {
      { O::name } -> std::convertible_to<std::string_view>;
      { O::bytes(MemoryPlan{}) } -> std::convertible_to<std::size_t>;
      { optimizer.step(rate) } -> std::same_as<double>;
    };

}  // namespace lnfree
