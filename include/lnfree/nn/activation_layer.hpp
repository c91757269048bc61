#pragma once

#include <functional>
#include <memory>
#include <string>

#include <lnfree/activation/layerwise.hpp>
#include <lnfree/core/concepts.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/nn/linear.hpp>
#include <lnfree/nn/parameter.hpp>

namespace lnfree {

/// The activation of a layer, for any policy.
template <class Device>
class ActivationLayer {
 public:
  using Scalar = typename Device::Scalar;

  virtual ~ActivationLayer() = default;

  /// Whether the backward pass needs the input of the activation, or its output.
  virtual bool saves_input() const = 0;

  /// y = A(x W + b) with the W and b of `linear`. x W + b is kept in `before`, which is the memory of y if
  /// the backward pass does not need it.
  virtual void forward(Device& device, Linear<Device>& linear, Matrix<const Scalar> x, Matrix<Scalar> before,
                       Matrix<Scalar> y) = 0;

  /// Turns d_y into the gradient of x W + b, and adds to the gradient of a learnable parameter. `saved` is
  /// `before`.
  virtual void backward(Device& device, Matrix<const Scalar> saved, Matrix<Scalar> d_y) = 0;
};

/// The activation with policy A.
template <Activation A, class Device>
class ActivationOf final : public ActivationLayer<Device> {
 public:
  using Scalar = typename Device::Scalar;
  static_assert(HasActivation<Device, A>,
                "lnfree: the device has no activation_forward and activation_backward for this activation "
                "(device/primitives.hpp)");

  /// `layer` is the name prefix of a parameter that each layer has for itself.
  ActivationOf(ParameterSet<Device>& parameters, const std::string& layer) {
    if constexpr (LearnableActivation<A>) {
      const std::string owner = A::scope == Scope::global ? "act" : layer + ".act";
      slope_ = &parameters.find_or_add(owner + "." + std::string(A::parameter_name), {1},
                                       ParameterKind::slope, A::initial);
    }
  }

  bool saves_input() const override { return A::saved == Saved::input; }

  void forward(Device& device, Linear<Device>& linear, Matrix<const Scalar> x, Matrix<Scalar> before,
               Matrix<Scalar> y) override {
    if constexpr (HasEpilogue<Device, A> && A::saved == Saved::output) {
      linear.forward(device, x, y, A{});
    } else {
      linear.forward(device, x, before);
      activation_forward(device, A{}, before, slope_ == nullptr ? nullptr : slope_->value, y);
    }
  }

  void backward(Device& device, Matrix<const Scalar> saved, Matrix<Scalar> d_y) override {
    activation_backward(device, A{}, saved, slope_ == nullptr ? nullptr : slope_->value, d_y,
                        slope_ == nullptr ? nullptr : slope_->gradient);
  }

 private:
  Parameter<Device>* slope_ = nullptr;
};

/// Creates the activation of layer number `layer`, with parameter names that begin with `name`.
template <class Device>
using ActivationFactory = std::function<std::unique_ptr<ActivationLayer<Device>>(
    ParameterSet<Device>&, const std::string& name, int layer)>;

/// The factory of A's activation in each layer.
template <ActivationOfLayers A, class Device>
ActivationFactory<Device> activation_factory() {
  return [](ParameterSet<Device>& parameters, const std::string& name,
            int layer) -> std::unique_ptr<ActivationLayer<Device>> {
    return with_activation<A>(layer, [&]<class Here>(Here) -> std::unique_ptr<ActivationLayer<Device>> {
      return std::make_unique<ActivationOf<Here, Device>>(parameters, name);
    });
  };
}

}  // namespace lnfree
