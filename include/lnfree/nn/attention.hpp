#pragma once

#include <span>
#include <string>

#include <lnfree/core/config.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/nn/key_value_cache.hpp>
#include <lnfree/nn/linear.hpp>

namespace lnfree {

namespace detail::attention {

/// out = a.
struct Copy {
  template <class T>
  LNFREE_HOST_DEVICE void operator()(T a, T& out) const {
    out = a;
  }
};

}  // namespace detail::attention

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
    if (context_ == 0) {
      qkv_ = arena.matrix<Scalar>(max_shape.rows(), 3 * width());
    } else {
      fresh_ = arena.matrix<Scalar>(max_shape.rows(), 3 * width());
      fresh_output_ = arena.matrix<Scalar>(max_shape.rows(), width());
    }
    heads_output_ = arena.matrix<Scalar>(max_shape.rows(), width());
    log_sum_ = arena.take<Accumulator>(max_shape.rows() * heads_);
  }

  /// Reserves a cache of Q | K | V for several texts of up to `context` tokens, which is kept from pass to
  /// pass. Call it before plan().
  void plan_keys_and_values(Arena& arena, int texts, int context) {
    context_ = context;
    qkv_ = arena.matrix<Scalar>(Index{texts} * context, 3 * width());
  }

  /// y = attention(x). The values are computed from `values` if that has data, otherwise from x. `entropies`
  /// is RowEntropies, RowScores or Unobserved.
  template <class Entropies>
  void forward(Device& device, BatchShape shape, Matrix<const Scalar> x, Matrix<const Scalar> values,
               Output<Scalar> y, Accumulator* workspace, Entropies entropies) {
    const Matrix<Scalar> qkv = qkv_.top(x.rows), heads_output = heads_output_.top(x.rows);
    project(device, x, values, qkv);
    c_proj_.expect(device, heads_output);
    attend(device, packed(shape), qkv, heads_output, workspace, entropies);
    c_proj_.forward(device, heads_output, y);
  }

  /// The same for the new tokens of several texts with cached keys and values. The rows of x are those of the
  /// first text, then those of the second, and so on; each weight is read once for all of them.
  void forward(Device& device, std::span<const TextPart> texts, Matrix<const Scalar> x,
               Matrix<const Scalar> values, Output<Scalar> y, Accumulator* workspace, Unobserved) {
    const Matrix<Scalar> fresh = fresh_.top(x.rows), fresh_output = fresh_output_.top(x.rows);
    project(device, x, values, fresh);
    Index row = 0;
    for (const TextPart& text : texts) {
      const Matrix<Scalar> qkv = qkv_.slice(Index{text.slot} * context_, text.length());
      const Matrix<Scalar> heads_output = heads_output_.top(text.length());
      copy(device, fresh.slice(row, text.rows()), qkv.slice(text.first, text.rows()));
      attend(device, {1, text.length(), heads_, head_dim_, text.first}, qkv, heads_output, workspace,
             Unobserved{});
      copy(device, heads_output.slice(text.first, text.rows()), fresh_output.slice(row, text.rows()));
      row += text.rows();
    }
    c_proj_.forward(device, fresh_output, y);
  }

  /// Call it before a primitive writes x, if forward() is the next to read it.
  void expect_input(Device& device, Matrix<const Scalar> x) { c_attn_.expect(device, x); }
  /// Call it before a primitive writes d_y, if backward() is the next to read it.
  void expect_gradient(Device& device, Matrix<const Scalar> d_y) { c_proj_.expect(device, d_y); }

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
    // Otherwise rotary() writes d_qkv as well, or no product reads all of it.
    if (rotary_dims_ == 0 && values.data == nullptr) c_attn_.expect(device, d_qkv);
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
  AttentionShape packed(BatchShape shape) const { return {shape.batch, shape.length, heads_, head_dim_}; }

  /// Computes Q | K | V of x, with the values computed from `values` if that has data.
  void project(Device& device, Matrix<const Scalar> x, Matrix<const Scalar> values, Matrix<Scalar> qkv) {
    if (values.data == nullptr) {
      c_attn_.forward(device, x, qkv);
    } else {
      c_attn_.forward_columns(device, 0, x, qkv.columns(0, 2 * width()));
      c_attn_.forward_columns(device, 2 * width(), values, qkv.columns(2 * width(), width()));
    }
  }

  /// Computes the heads' outputs from Q | K | V.
  template <class Entropies>
  void attend(Device& device, AttentionShape shape, Matrix<Scalar> qkv, Matrix<Scalar> heads_output,
              Accumulator* workspace, Entropies entropies) {
    if (rotary_dims_ > 0) rotary(device, shape, rotary_dims_, qkv, false);
    attention_forward(device, shape, qkv, heads_output, log_sum_, workspace, entropies);
  }

  /// Copies a contiguous matrix.
  static void copy(Device& device, Matrix<Scalar> from, Matrix<Scalar> to) {
    for_each_element(device, from.size(), detail::attention::Copy{}, from.data, to.data);
  }

  int heads_;
  int head_dim_;
  int rotary_dims_;
  Linear<Device> c_attn_, c_proj_;
  Matrix<Scalar> qkv_;              // (B, T, 3 C), or (texts, context, 3 C) as a cache
  Matrix<Scalar> fresh_;            // its rows for the new tokens, if there is a cache
  Matrix<Scalar> fresh_output_;     // the heads' outputs for the new tokens
  Matrix<Scalar> heads_output_;     // (B, T, C)
  Accumulator* log_sum_ = nullptr;  // (B, H, T)
  int context_ = 0;                 // rows of a text in the cache; 0: no cache
};

}  // namespace lnfree
