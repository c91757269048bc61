#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/policies.hpp>
#include <lnfree/nn/attention.hpp>
#include <lnfree/nn/decoder_parts.hpp>
#include <lnfree/nn/feed_forward.hpp>
#include <lnfree/nn/wiring.hpp>

namespace lnfree {

/// Buffers for the gradients of the residual stream, (rows, C) each. Between two blocks the first holds the
/// gradient of the stream.
template <class Scalar>
struct GradientBuffers {
  static constexpr int max_count = 8;
  std::array<Matrix<Scalar>, max_count> of;

  Matrix<Scalar>& operator[](int i) { return of[static_cast<std::size_t>(i)]; }

  GradientBuffers top(Index rows) const {
    GradientBuffers result;
    for (std::size_t i = 0; i < of.size(); ++i) {
      if (of[i].rows > 0) result.of[i] = of[i].top(rows);
    }
    return result;
  }
};

/// Scratch memory shared by all blocks.
template <class Device>
struct BlockScratch {
  using Scalar = typename Device::Scalar;

  /// Reserves what a pass needs, including the matrices of a training pass.
  void plan(Arena& arena, Index rows, Index attention_size, const DecoderConfig& config, int buffers) {
    attention = arena.take<typename Device::Accumulator>(attention_size);
    if (buffers == 0) return;
    wide = arena.matrix<Scalar>(rows, std::max(4 * config.width, config.ffn_width));
    for (int i = 0; i < buffers; ++i) gradients[i] = arena.matrix<Scalar>(rows, config.width);
  }

  typename Device::Accumulator* attention = nullptr;  ///< The attention primitive's workspace.
  Matrix<Scalar> wide;  ///< (rows, max(4 C, ffn_width)): used within a sublayer.
  GradientBuffers<Scalar> gradients;
};

/// out = a + b.
struct Sum {
  template <class T>
  LNFREE_HOST_DEVICE void operator()(T a, T b, T& out) const {
    out = a + b;
  }
};

/// A transformer block: attention, a feed-forward network and norms, connected by the layout.
template <class Device>
class Block {
 public:
  using Scalar = typename Device::Scalar;

  Block(ParameterSet<Device>& parameters, const std::string& name, const DecoderConfig& config,
        const DecoderParts<Device>& parts, int layer)
      : Block(LayoutBuilder<Device>(parameters, name, config.width, parts.norm), parameters, name, config,
              parts, layer) {}

  /// Reserves the output of every step of the layout, and what the steps save.
  void plan(Arena& arena, BatchShape max_shape, const DecoderConfig& config) {
    // The outputs come first. In a model that does not train, all blocks share the same memory. The input x
    // then lies exactly where this block's output goes, whatever activations the two blocks have.
    for (auto& output : outputs_) output = arena.matrix<Scalar>(max_shape.rows(), config.width);
    for (auto& norm : norms_) norm->plan(arena, max_shape.rows());
    attention_.plan(arena, max_shape);
    feed_forward_.plan(arena, max_shape, config);
  }

  /// Reserves a cache of keys and values for several texts, kept from pass to pass; call it before plan().
  void plan_keys_and_values(Arena& arena, int texts, int context) {
    attention_.plan_keys_and_values(arena, texts, context);
  }

  /// The residual stream after this block. In a model that does not train, x may be the same memory.
  /// `extent` is a BatchShape or a span of TextPart; `entropies` is RowEntropies, RowScores or Unobserved.
  template <class Extent, class Entropies>
  Matrix<Scalar> forward(Device& device, Extent extent, Matrix<const Scalar> x,
                         const BlockScratch<Device>& scratch, Entropies entropies) {
    for (std::size_t s = 0; s < outputs_.size(); ++s) {
      const Wiring::Step& step = wiring_.steps()[s];
      const Matrix<const Scalar> in = matrix(step.input, x);
      const Output<Scalar> out(outputs_[s].top(x.rows),
                               step.addend < 0 ? Matrix<const Scalar>() : matrix(step.addend, x));
      switch (step.kind) {
        case Wiring::Kind::norm:
          expect_input(device, s, out.matrix);
          norm(step).forward(device, in, out);
          break;
        case Wiring::Kind::attention:
          attention_.forward(device, extent, in, values(step, x), out, scratch.attention, entropies);
          break;
        case Wiring::Kind::feed_forward:
          feed_forward_.forward(device, in, out);
      }
    }
    return output(x.rows);
  }

  /// Replaces the gradient of the output, in the first buffer, by that of x. `entropies` is EntropyGradients
  /// or Unobserved; penalize(hidden, d_hidden) may add to the hidden layer's gradient. `below` is the block
  /// whose backward() is the next to read the gradient of x, if any.
  template <class Gradients, class Penalize>
  void backward(Device& device, BatchShape shape, Matrix<const Scalar> x, GradientBuffers<Scalar>& buffers,
                const BlockScratch<Device>& scratch, Gradients entropies, const Penalize& penalize,
                Block* below = nullptr) {
    const std::vector<Wiring::GradientStep>& gradient_steps = wiring_.gradient_steps();
    for (std::size_t g = 0; g < gradient_steps.size(); ++g) {
      const Wiring::GradientStep& back = gradient_steps[g];
      const Matrix<const Scalar> d_out = buffers[back.d_output];
      const Output<Scalar> d_in(buffers[back.d_input],
                                back.addend < 0 ? Matrix<const Scalar>() : buffers[back.addend]);
      if (back.step < 0) {
        for_each_element(device, d_out.size(), Sum{}, d_out.data, d_in.addend.data, d_in.matrix.data);
        continue;
      }
      const Wiring::Step& step = wiring_.steps()[static_cast<std::size_t>(back.step)];
      const Matrix<const Scalar> in = matrix(step.input, x);
      switch (step.kind) {
        case Wiring::Kind::norm:
          if (g + 1 < gradient_steps.size()) {
            expect_gradient(device, g + 1, back.d_input, d_in.matrix);
          } else if (below != nullptr && back.d_input == wiring_.gradient_of_input()) {
            below->expect_gradient(device, d_in.matrix);
          }
          norm(step).backward(device, in, d_out, d_in);
          break;
        case Wiring::Kind::attention:
          attention_.backward(device, shape, in, values(step, x), d_out, d_in,
                              back.d_values < 0 ? Matrix<Scalar>() : buffers[back.d_values], scratch.wide,
                              scratch.attention, entropies);
          break;
        case Wiring::Kind::feed_forward:
          feed_forward_.backward(device, in, d_out, d_in, scratch.wide, penalize);
      }
    }
    std::swap(buffers[0], buffers[wiring_.gradient_of_input()]);
  }

  /// Call it before a primitive writes the gradient of the output, if backward() is the next to read it.
  void expect_gradient(Device& device, Matrix<const Scalar> d_output) {
    expect_gradient(device, 0, 0, d_output);
  }

  Matrix<Scalar> output(Index rows) const { return outputs_.back().top(rows); }

  /// The feed-forward network's hidden layer after the activation, (B, T, ffn_width).
  Matrix<const Scalar> hidden(Index rows) const { return feed_forward_.hidden(rows); }

  /// The block's attention.
  const Attention<Device>& attention() const { return attention_; }

  /// Calls f(part, x) with the residual stream (B T, C) after each addition to it in the last pass. If the
  /// layout has a norm within the stream, there are no such sums and no calls.
  template <class F>
  void for_each_sum(Index rows, const F& f) const {
    for (const Wiring::Addition& addition : wiring_.additions()) {
      f(addition.kind == Wiring::Kind::attention ? StreamPart::attention : StreamPart::feed_forward,
        Matrix<const Scalar>(outputs_[static_cast<std::size_t>(addition.matrix - 1)].top(rows)));
    }
  }

  /// Calls f(norm) for each norm.
  template <class F>
  void for_each_norm(const F& f) {
    for (auto& norm : norms_) f(*norm);
  }

  /// How many buffers the backward pass needs.
  int gradient_buffers() const { return wiring_.gradient_buffers(); }

 private:
  Block(LayoutBuilder<Device> layout, ParameterSet<Device>& parameters, const std::string& name,
        const DecoderConfig& config, const DecoderParts<Device>& parts, int layer)
      : wiring_(layout.take_wiring(parts.wire(layout, WiredValue{0}))),
        norms_(layout.take_norms()),
        attention_(parameters, name + ".attn", config),
        feed_forward_(parameters, name + ".mlp", config, parts.activation, layer),
        outputs_(wiring_.steps().size()) {
    if (gradient_buffers() > GradientBuffers<Scalar>::max_count)
      throw Error("the layout needs more than " + std::to_string(GradientBuffers<Scalar>::max_count) +
                  " gradients at a time");
  }

  /// Before step s writes its output x: announces x to the next sublayer, if that reads it.
  void expect_input(Device& device, std::size_t s, Matrix<const Scalar> x) {
    const std::vector<Wiring::Step>& steps = wiring_.steps();
    const auto sublayer =
        std::find_if(steps.begin() + static_cast<std::ptrdiff_t>(s) + 1, steps.end(),
                     [](const Wiring::Step& step) { return step.kind != Wiring::Kind::norm; });
    if (sublayer == steps.end() || sublayer->input != static_cast<int>(s) + 1) return;
    if (sublayer->kind == Wiring::Kind::attention) {
      attention_.expect_input(device, x);
    } else {
      feed_forward_.expect_input(device, x);
    }
  }
  /// Before d_output is written to a buffer: announces it to gradient step g, if that is a sublayer's and
  /// reads the buffer.
  void expect_gradient(Device& device, std::size_t g, int buffer, Matrix<const Scalar> d_output) {
    const Wiring::GradientStep& back = wiring_.gradient_steps()[g];
    if (back.step < 0 || back.d_output != buffer) return;
    switch (wiring_.steps()[static_cast<std::size_t>(back.step)].kind) {
      case Wiring::Kind::norm:
        break;
      case Wiring::Kind::attention:
        attention_.expect_gradient(device, d_output);
        break;
      case Wiring::Kind::feed_forward:
        feed_forward_.expect_gradient(device, d_output);
    }
  }

  /// The matrix with this number in the wiring.
  Matrix<const Scalar> matrix(int number, Matrix<const Scalar> x) const {
    return number == 0 ? x : Matrix<const Scalar>(outputs_[static_cast<std::size_t>(number - 1)].top(x.rows));
  }
  /// The matrix that the values are computed from if it is not the attention's input; otherwise null.
  Matrix<const Scalar> values(const Wiring::Step& step, Matrix<const Scalar> x) const {
    return step.values < 0 ? Matrix<const Scalar>() : matrix(step.values, x);
  }
  NormLayer<Device>& norm(const Wiring::Step& step) { return *norms_[static_cast<std::size_t>(step.norm)]; }

  Wiring wiring_;
  std::vector<std::unique_ptr<NormLayer<Device>>> norms_;
  Attention<Device> attention_;
  FeedForward<Device> feed_forward_;
  std::vector<Matrix<Scalar>> outputs_;  // (B, T, C) each, one for each step of the wiring
};

}  // namespace lnfree
