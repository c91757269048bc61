#pragma once

#include <string>

#include <lnfree/core/config.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/nn/linear.hpp>

namespace lnfree {

/// Multi-head causal self-attention (the paper's equations 2 and 3): (Q | K | V) = x W_qkv + b, softmax
/// attention head by head, and the output projection. With rotary positions, Q and K are rotated in between.
template <class Device>
class Attention {
 public:
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;

  Attention(ParameterSet<Device>& parameters, const std::string& name, const DecoderConfig& config)
      : heads_(config.heads),
        head_dim_(config.head_dim()),
        rotary_dims_(config.rotary_dims),
        c_attn_(parameters, name + ".c_attn", config.width, 3 * config.width, biased_columns(config), 3),
        c_proj_(parameters, name + ".c_proj", config.width, config.width,
                config.biases == Biases::all ? config.width : 0) {}

  /// Reserves memory for what the backward pass needs: Q | K | V, the heads' outputs, and a number for each
  /// query.
  void plan(Arena& arena, BatchShape max_shape) {
    if (!keeps_) qkv_ = arena.matrix<Scalar>(max_shape.rows(), 3 * width());
    heads_output_ = arena.matrix<Scalar>(max_shape.rows(), width());
    log_sum_ = arena.take<Accumulator>(max_shape.rows() * heads_);
  }

  /// Reserves Q | K | V separately, so that later passes find those of earlier ones; plan() then does not.
  void plan_keys_and_values(Arena& arena, BatchShape max_shape) {
    qkv_ = arena.matrix<Scalar>(max_shape.rows(), 3 * width());
    keeps_ = true;
  }

  /// y = attention(x). The values are computed from `values` if that has data, otherwise from x. `entropies`
  /// is RowEntropies, RowScores or Unobserved.
  template <class Entropies>
  void forward(Device& device, BatchShape shape, Matrix<const Scalar> x, Matrix<const Scalar> values,
               Output<Scalar> y, Accumulator* workspace, Entropies entropies) {
    const Index known = Index{shape.batch} * shape.first, rows = known + x.rows;
    const Matrix<Scalar> qkv = qkv_.top(rows), heads_output = heads_output_.top(rows);
    const Matrix<Scalar> fresh = qkv.slice(known, x.rows);
    if (values.data == nullptr) {
      c_attn_.forward(device, x, fresh);
    } else {
      c_attn_.forward_columns(device, 0, x, fresh.columns(0, 2 * width()));
      c_attn_.forward_columns(device, 2 * width(), values, fresh.columns(2 * width(), width()));
    }
    if (rotary_dims_ > 0) rotary(device, packed(shape), rotary_dims_, qkv, false);
    attention_forward(device, packed(shape), qkv, heads_output, log_sum_, workspace, entropies);
    c_proj_.forward(device, heads_output.slice(known, x.rows), y);
  }

  /// Computes d_x, which may be the memory of d_y, from d_y (rows, C), and d_values if there are separate
  /// values. `scratch` has 4 C columns; `entropies` is EntropyGradients, or Unobserved.
  template <class Gradients>
  void backward(Device& device, BatchShape shape, Matrix<const Scalar> x, Matrix<const Scalar> values,
                Matrix<const Scalar> d_y, Output<Scalar> d_x, Matrix<Scalar> d_values, Matrix<Scalar> scratch,
                Accumulator* workspace, Gradients entropies) {
    const Matrix<Scalar> qkv = qkv_.top(x.rows), heads_output = heads_output_.top(x.rows);
    const Matrix<Scalar> d_heads(scratch.data, x.rows, width());
    const Matrix<Scalar> d_qkv(scratch.data + d_heads.size(), x.rows, 3 * width());
    c_proj_.backward(device, heads_output, d_y, d_heads);
    attention_backward(device, packed(shape), qkv, heads_output, log_sum_, d_heads, d_qkv, workspace,
                       entropies);
    if (rotary_dims_ > 0) rotary(device, packed(shape), rotary_dims_, d_qkv, true);
    if (values.data == nullptr) {
      c_attn_.backward(device, x, d_qkv, d_x);
    } else {
      c_attn_.backward_columns(device, 0, x, d_qkv.columns(0, 2 * width()), d_x);
      c_attn_.backward_columns(device, 2 * width(), values, d_qkv.columns(2 * width(), width()), d_values);
    }
  }

  /// Q | K | V of the last pass (B T, 3 C), rotated if positions are rotary.
  Matrix<const Scalar> queries_keys_values(Index rows) const { return qkv_.top(rows); }
  /// ln sum_j exp(s_ij) of each query of the last pass, (B, H, T).
  const Accumulator* log_sums() const { return log_sum_; }

 private:
  static Index biased_columns(const DecoderConfig& config) {
    switch (config.biases) {
      case Biases::all:
        return 3 * config.width;
      case Biases::query_key:
        return 2 * config.width;
      default:
        return 0;
    }
  }
  int width() const { return heads_ * head_dim_; }
  AttentionShape packed(BatchShape shape) const {
    return {shape.batch, shape.length, heads_, head_dim_, shape.first};
  }

  int heads_;
  int head_dim_;
  int rotary_dims_;
  Linear<Device> c_attn_, c_proj_;
  Matrix<Scalar> qkv_;              // (B, T, 3 C)
  Matrix<Scalar> heads_output_;     // (B, T, C)
  Accumulator* log_sum_ = nullptr;  // (B, H, T)
  bool keeps_ = false;              // whether Q | K | V are kept from pass to pass
};

}  // namespace lnfree
