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

/// The activation of a layer, whatever its policy.
template <class Device>
class ActivationLayer {
 public:
  using Scalar = typename Device::Scalar;

  virtual ~ActivationLayer() = default;

  /// Whether the backward pass needs the numbers before the activation, or those after it.
  virtual bool saves_input() const = 0;

  /// y = A(x W + b) with the W and b of `linear`; x W + b stays in `before`, which is the memory of y where
  /// the backward pass has no use for it.
  virtual void forward(Device& device, Linear<Device>& linear, Matrix<const Scalar> x, Matrix<Scalar> before,
                       Matrix<Scalar> y) = 0;

  /// d_y becomes the gradient of x W + b; that of a learnable parameter is added to. `saved` is `before`.
  virtual void backward(Device& device, Matrix<const Scalar> saved, Matrix<Scalar> d_y) = 0;
};

/// The activation whose policy A says what it computes.
template <Activation A, class Device>
class ActivationOf final : public ActivationLayer<Device> {
 public:
  using Scalar = typename Device::Scalar;
  static_assert(HasActivation<Device, A>,
                "lnfree: the device has no activation_forward and activation_backward for this activation "
                "(device/primitives.hpp)");

  /// `layer` names a parameter that each layer has for itself.
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

/// Makes the activation of layer number `layer`, whose parameters are named after `name`.
template <class Device>
using ActivationFactory = std::function<std::unique_ptr<ActivationLayer<Device>>(
    ParameterSet<Device>&, const std::string& name, int layer)>;

/// The factory of what A has in each layer.
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
