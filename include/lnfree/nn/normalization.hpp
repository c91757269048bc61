#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/norm/call.hpp>
#include <lnfree/norm/identity.hpp>

namespace lnfree {

/// Whether a norm has a setting of that name, one number for the whole norm.
template <class N>
constexpr bool has_setting(std::string_view name) {
  if constexpr (norm_parameter_count<N> > 0) {
    for (const NormParameter& parameter : N::parameters)
      if (parameter.name == name && !parameter.is_learned && !parameter.is_per_channel) return true;
  }
  return false;
}

/// A norm that says how it is removed during training.
template <class N>
concept HasRemoval = requires {
  { N::removal } -> std::convertible_to<Removal>;
};

/// The same, with all that the removal needs.
template <class N>
concept RemovableNorm = HasRemoval<N> && RowNorm<N> && has_setting<N>("gate") && has_setting<N>("scale");

/// The parts of a norm that the removal uses.
template <class Device>
struct NormGate {
  Parameter<Device>* gate;   ///< One number: 1 while it is a norm, 0 once it is removed.
  Parameter<Device>* scale;  ///< One number, which replaces the rows' inverse standard deviations.
  NormSite site;             ///< Where in the model it is.
  const NormRow<typename Device::Accumulator>* rows;  ///< The rows of the last pass, on the device.
};

/// A norm of a model, for any policy.
template <class Device>
class NormLayer {
 public:
  using Scalar = typename Device::Scalar;

  virtual ~NormLayer() = default;

  /// The gate of a norm that is removed during training.
  virtual std::optional<NormGate<Device>> gate() const { return std::nullopt; }

  /// Whether an attention after this norm has a separate norm for its values.
  virtual bool splits_values() const { return false; }

  /// Reserves what the norm saves for each row.
  virtual void plan(Arena& arena, Index rows) = 0;

  /// y = norm(x), (rows, C).
  virtual void forward(Device& device, Matrix<const Scalar> x, Output<Scalar> y) = 0;

  /// Computes d_x from d_y and adds to the gradients of the parameters. d_x must not be the memory of d_y.
  virtual void backward(Device& device, Matrix<const Scalar> x, Matrix<const Scalar> d_y,
                        Output<Scalar> d_x) = 0;
};

/// The norm with policy N. Models with Identity have none.
template <class N, class Device>
class Normalization final : public NormLayer<Device> {
 public:
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;
  static_assert(!Norm<N> || HasNorm<Device, N>,
                "lnfree: the device has no norm_forward and norm_backward for this norm "
                "(device/primitives.hpp)");
  static_assert(
      !HasRemoval<N> || RemovableNorm<N>,
      "lnfree: a norm with `removal` needs statistics of its rows, and settings named gate and scale, "
      "one number each (norm/tapered.hpp)");

  Normalization(ParameterSet<Device>& parameters, const std::string& name, Index width, NormSite site)
      : site_(site) {
    for_norm_parameters<N>([&](auto k) {
      constexpr NormParameter p = norm_parameter<N, k()>;
      parameters_[k()] =
          &parameters.add(name + "." + std::string(p.name), {p.is_per_channel ? width : 1},
                          p.is_learned ? ParameterKind::norm : ParameterKind::setting, p.initial.at(site));
    });
  }

  std::optional<NormGate<Device>> gate() const override {
    if constexpr (RemovableNorm<N>) {
      return NormGate<Device>{setting("gate"), setting("scale"), site_, rows_};
    } else {
      return std::nullopt;
    }
  }

  bool splits_values() const override {
    if constexpr (RemovableNorm<N>) return N::removal == Removal::staged;
    return false;
  }

  void plan(Arena& arena, Index rows) override {
    if constexpr (RowNorm<N>) rows_ = arena.take<NormRow<Accumulator>>(rows);
  }

  void forward(Device& device, Matrix<const Scalar> x, Output<Scalar> y) override {
    norm_forward(device, N{}, x, values(), y, rows_);
  }

  void backward(Device& device, Matrix<const Scalar> x, Matrix<const Scalar> d_y,
                Output<Scalar> d_x) override {
    norm_backward(device, N{}, x, values(), rows_, d_y, d_x, gradients());
  }

 private:
  NormPointers<const Scalar, N> values() const {
    NormPointers<const Scalar, N> pointers;
    for_norm_parameters<N>([&](auto k) { pointers.of[k()] = parameters_[k()]->value; });
    return pointers;
  }
  NormPointers<Accumulator, N> gradients() const {
    NormPointers<Accumulator, N> pointers;
    for_learned_parameters<N>([&](auto k) { pointers.of[k()] = parameters_[k()]->gradient; });
    return pointers;
  }

  /// The parameter named `name`.
  Parameter<Device>* setting(std::string_view name) const {
    Parameter<Device>* found = nullptr;
    for_norm_parameters<N>([&](auto k) {
      if (norm_parameter<N, k()>.name == name) found = parameters_[k()];
    });
    return found;
  }

  NormSite site_;
  Parameter<Device>* parameters_[norm_parameter_count<N> > 0 ? norm_parameter_count<N> : 1] = {};
  NormRow<Accumulator>* rows_ = nullptr;
};

/// Creates a norm with parameters of that name for rows of `width` numbers; empty if there is no norm.
template <class Device>
using NormFactory = std::function<std::unique_ptr<NormLayer<Device>>(
    ParameterSet<Device>&, const std::string& name, Index width, NormSite)>;

/// The factory of the norms of policy N.
template <class N, class Device>
NormFactory<Device> norm_factory() {
  if constexpr (std::is_same_v<N, Identity>) {
    return nullptr;
  } else {
    return [](ParameterSet<Device>& parameters, const std::string& name, Index width, NormSite site) {
      return std::make_unique<Normalization<N, Device>>(parameters, name, width, site);
    };
  }
}

}  // namespace lnfree
