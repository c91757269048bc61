#pragma once

#include <string>

#include <lnfree/activation/call.hpp>
#include <lnfree/activation/layerwise.hpp>
#include <lnfree/backend/primitives.hpp>
#include <lnfree/core/config.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/nn/linear.hpp>

namespace lnfree {

/// The feed-forward network of a block (the paper's equation 4): y = A(x W_1) W_2 with the activation policy
/// A.
template <class A, class Device>
class FeedForward {
 public:
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;
  static_assert(!ActivationOfLayers<A> || HasActivationOfLayers<Device, A>,
                "lnfree: the device has no activation_forward and activation_backward for this activation "
                "(backend/primitives.hpp)");

  FeedForward(ParameterSet<Device>& parameters, const std::string& name, const DecoderConfig& config,
              int layer)
      : layer_(layer),
        c_fc_(parameters, name + ".c_fc", config.width, config.ffn_width,
              config.biases == Biases::all ? config.ffn_width : 0),
        c_proj_(parameters, name + ".c_proj", config.ffn_width, config.width,
                config.biases == Biases::all ? config.width : 0) {
    with_activation<A>(layer_, [&]<class Here>(Here) {
      if constexpr (LearnableActivation<Here>) {
        const std::string owner = Here::scope == Scope::global ? "act" : name + ".act";
        slope_ = &parameters.find_or_add(owner + "." + std::string(Here::parameter_name), {1},
                                         ParameterKind::slope, Here::initial);
      }
    });
  }

  /// Reserves the hidden layer after the activation, and before it if the derivative needs that.
  void plan(Arena& arena, BatchShape max_shape, const DecoderConfig& config) {
    hidden_ = arena.matrix<Scalar>(max_shape.rows(), config.ffn_width);
    const bool saves_input = with_activation<A>(layer_, [](auto here) { return here.saved == Saved::input; });
    before_ = saves_input ? arena.matrix<Scalar>(max_shape.rows(), config.ffn_width) : hidden_;
  }

  /// y = FFN(x).
  void forward(Device& device, Matrix<const Scalar> x, Output<Scalar> y) {
    const Matrix<Scalar> before = before_.top(x.rows), hidden = hidden_.top(x.rows);
    with_activation<A>(layer_, [&]<class Here>(Here here) {
      if constexpr (HasEpilogue<Device, Here> && Here::saved == Saved::output) {
        c_fc_.forward(device, x, hidden, here);
      } else {
        c_fc_.forward(device, x, before);
        activation_forward(device, here, before, slope_ == nullptr ? nullptr : slope_->value, hidden);
      }
    });
    c_proj_.forward(device, hidden, y);
  }

  /// From d_y (rows, C) to d_x, which may be the memory of d_y. `scratch` has ffn_width columns.
  /// penalise(hidden, d_hidden) may add to the gradient of the hidden layer.
  template <class Penalise>
  void backward(Device& device, Matrix<const Scalar> x, Matrix<const Scalar> d_y, Output<Scalar> d_x,
                Matrix<Scalar> scratch, const Penalise& penalise) {
    const Matrix<Scalar> d_hidden(scratch.data, x.rows, hidden_.cols);
    c_proj_.backward(device, hidden(x.rows), d_y, d_hidden);
    penalise(hidden(x.rows), d_hidden);
    with_activation<A>(layer_, [&](auto here) {
      activation_backward(device, here, before_.top(x.rows), slope_ == nullptr ? nullptr : slope_->value,
                          d_hidden, slope_ == nullptr ? nullptr : slope_->gradient);
    });
    c_fc_.backward(device, x, d_hidden, d_x);
  }

  /// The hidden layer after the activation, (B, T, ffn_width).
  Matrix<const Scalar> hidden(Index rows) const { return hidden_.top(rows); }

 private:
  int layer_;
  Linear<Device> c_fc_, c_proj_;
  Parameter<Device>* slope_ = nullptr;
  Matrix<Scalar> hidden_;  // (B, T, 4 C), after the activation
  Matrix<Scalar> before_;  // before it; the same memory where the output tells the derivative
};

}  // namespace lnfree
