#pragma once

#include <string>

#include <lnfree/activation/call.hpp>
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

  /// `shared_slope` is the whole model's parameter of an activation of global scope.
  FeedForward(ParameterSet<Device>& parameters, const std::string& name, const DecoderConfig& config,
              Parameter<Device>* shared_slope)
      : c_fc_(parameters, name + ".c_fc", config.width, config.ffn_width,
              config.biases == Biases::all ? config.ffn_width : 0),
        c_proj_(parameters, name + ".c_proj", config.ffn_width, config.width,
                config.biases == Biases::all ? config.width : 0),
        slope_(shared_slope) {
    if constexpr (LearnableActivation<A>) {
      if (A::scope == Scope::per_layer) slope_ = &add_slope(parameters, name + ".act");
    }
  }

  /// The learnable scalar of A.
  static Parameter<Device>& add_slope(ParameterSet<Device>& parameters,
                                      const std::string& name) requires LearnableActivation<A> {
    return parameters.add(name + "." + std::string(A::parameter_name), {1}, ParameterKind::slope, A::initial);
  }

  /// Reserves the hidden layer after the activation, and before it if A's derivative needs that.
  void plan(Arena& arena, BatchShape most, const DecoderConfig& config) {
    hidden_ = arena.matrix<Scalar>(most.rows(), config.ffn_width);
    before_ = A::saved == Saved::input ? arena.matrix<Scalar>(most.rows(), config.ffn_width) : hidden_;
  }

  /// y += FFN(x).
  void forward(Device& device, Matrix<const Scalar> x, Matrix<Scalar> y) {
    const Matrix<Scalar> before = before_.top(x.rows), hidden = hidden_.top(x.rows);
    c_fc_.forward(device, x, before);
    activation_forward(device, A{}, before, slope_ == nullptr ? nullptr : slope_->value, hidden);
    c_proj_.forward(device, hidden, accumulate(y));
  }

  /// From d_y (rows, C) to d_x; d_x may be d_y, added to. `scratch` has ffn_width columns.
  void backward(Device& device, Matrix<const Scalar> x, Matrix<const Scalar> d_y, Output<Scalar> d_x,
                Matrix<Scalar> scratch) {
    const Matrix<Scalar> d_hidden(scratch.data, x.rows, hidden_.cols);
    c_proj_.backward(device, hidden_.top(x.rows), d_y, d_hidden);
    activation_backward(device, A{}, before_.top(x.rows), slope_ == nullptr ? nullptr : slope_->value,
                        d_hidden, slope_ == nullptr ? nullptr : slope_->gradient);
    c_fc_.backward(device, x, d_hidden, d_x);
  }

 private:
  Linear<Device> c_fc_, c_proj_;
  Parameter<Device>* slope_;
  Matrix<Scalar> hidden_;  // (B, T, 4 C), after the activation
  Matrix<Scalar> before_;  // before it; the same memory where the output tells the derivative
};

}  // namespace lnfree
