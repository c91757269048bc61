#pragma once

#include <memory>
#include <string>

#include <lnfree/core/config.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/nn/activation_layer.hpp>
#include <lnfree/nn/linear.hpp>

namespace lnfree {

/// The feed-forward network of a block (the paper's equation 4): y = A(x W_1) W_2 with an activation A.
template <class Device>
class FeedForward {
 public:
  using Scalar = typename Device::Scalar;

  FeedForward(ParameterSet<Device>& parameters, const std::string& name, const DecoderConfig& config,
              const ActivationFactory<Device>& activation, int layer)
      : c_fc_(parameters, name + ".c_fc", config.width, config.ffn_width,
              config.biases == Biases::all ? config.ffn_width : 0),
        c_proj_(parameters, name + ".c_proj", config.ffn_width, config.width,
                config.biases == Biases::all ? config.width : 0),
        activation_(activation(parameters, name, layer)) {}

  /// Reserves the hidden layer after the activation, and before it if the derivative needs its input.
  void plan(Arena& arena, BatchShape max_shape, const DecoderConfig& config) {
    hidden_ = arena.matrix<Scalar>(max_shape.rows(), config.ffn_width);
    before_ = activation_->saves_input() ? arena.matrix<Scalar>(max_shape.rows(), config.ffn_width) : hidden_;
  }

  /// y = FFN(x).
  void forward(Device& device, Matrix<const Scalar> x, Output<Scalar> y) {
    c_proj_.expect(device, hidden(x.rows));
    activation_->forward(device, c_fc_, x, before_.top(x.rows), hidden_.top(x.rows));
    c_proj_.forward(device, hidden(x.rows), y);
  }

  /// Call it before a primitive writes x, if forward() is the next to read it.
  void expect_input(Device& device, Matrix<const Scalar> x) { c_fc_.expect(device, x); }
  /// Call it before a primitive writes d_y, if backward() is the next to read it.
  void expect_gradient(Device& device, Matrix<const Scalar> d_y) { c_proj_.expect(device, d_y); }

  /// Computes d_x, which may be the memory of d_y, from d_y (rows, C). `scratch` has ffn_width columns.
  /// penalize(hidden, d_hidden) may add to the gradient of the hidden layer.
  template <class Penalize>
  void backward(Device& device, Matrix<const Scalar> x, Matrix<const Scalar> d_y, Output<Scalar> d_x,
                Matrix<Scalar> scratch, const Penalize& penalize) {
    const Matrix<Scalar> d_hidden(scratch.data, x.rows, hidden_.cols);
    c_proj_.backward(device, hidden(x.rows), d_y, d_hidden);
    penalize(hidden(x.rows), d_hidden);
    c_fc_.expect(device, d_hidden);
    activation_->backward(device, before_.top(x.rows), d_hidden);
    c_fc_.backward(device, x, d_hidden, d_x);
  }

  /// The hidden layer after the activation, (B, T, ffn_width).
  Matrix<const Scalar> hidden(Index rows) const { return hidden_.top(rows); }

 private:
  Linear<Device> c_fc_, c_proj_;
  std::unique_ptr<ActivationLayer<Device>> activation_;
  Matrix<Scalar> hidden_;  // (B, T, 4 C), after the activation
  Matrix<Scalar> before_;  // before it; the same memory if the derivative needs only the output
};

}  // namespace lnfree
