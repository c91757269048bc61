#pragma once

#include <algorithm>
#include <string>

#include <lnfree/nn/attention.hpp>
#include <lnfree/nn/feed_forward.hpp>
#include <lnfree/nn/normalization.hpp>

namespace lnfree {

/// Memory that every block uses in turn.
template <class Device>
struct BlockScratch {
  using Scalar = typename Device::Scalar;

  /// Reserves what a pass needs; the matrices are those of a training pass.
  void plan(Arena& arena, Index rows, Index attention_size, const DecoderConfig& config, bool trains) {
    attention = arena.take<typename Device::Accumulator>(attention_size);
    if (!trains) return;
    wide = arena.matrix<Scalar>(rows, std::max(4 * config.width, config.ffn_width));
    norm = arena.matrix<Scalar>(rows, config.width);
    if (config.parallel_residual) d_stream = arena.matrix<Scalar>(rows, config.width);
  }

  typename Device::Accumulator* attention = nullptr;  ///< The attention primitive's workspace.
  Matrix<Scalar> wide;      ///< (rows, max(4 C, ffn_width)): gradients inside a sublayer.
  Matrix<Scalar> norm;      ///< (rows, C): gradient of a norm's output.
  Matrix<Scalar> d_stream;  ///< (rows, C): the stream's gradient between two parallel sublayers.
};

/// A Pre-LN transformer block (the paper's equation 1): x += attention(norm_1(x)); x += FFN(norm_2(x)). With
/// parallel_residual both read the same x: x += attention(norm_1(x)) + FFN(norm_2(x)).
template <class N, class A, class Device>
class Block {
 public:
  using Scalar = typename Device::Scalar;

  Block(ParameterSet<Device>& parameters, const std::string& name, const DecoderConfig& config, int layer,
        Parameter<Device>* shared_slope)
      : parallel_(config.parallel_residual),
        norm_1_(parameters, name + ".ln_1", config.width, NormSite::attention),
        attention_(parameters, name + ".attn", config),
        norm_2_(parameters, name + ".ln_2", config.width, NormSite::feed_forward),
        feed_forward_(parameters, name + ".mlp", config, layer, shared_slope) {}

  /// Reserves the residual stream after each sublayer and what the sublayers keep.
  void plan(Arena& arena, BatchShape most, const DecoderConfig& config) {
    norm_1_.plan(arena, most.rows(), config.width);
    attention_.plan(arena, most);
    middle_ = arena.matrix<Scalar>(most.rows(), config.width);
    norm_2_.plan(arena, most.rows(), config.width);
    feed_forward_.plan(arena, most, config);
    output_ = arena.matrix<Scalar>(most.rows(), config.width);
  }

  /// The residual stream after this block. x may be the memory of the output itself in a model that does not
  /// train. `entropies` is RowEntropies, or Unobserved.
  template <class Entropies>
  Matrix<Scalar> forward(Device& device, BatchShape shape, Matrix<const Scalar> x,
                         const BlockScratch<Device>& scratch, Entropies entropies) {
    const Matrix<Scalar> middle = middle_.top(x.rows), output = output_.top(x.rows);
    attention_.forward(device, shape, norm_1_.forward(device, x), {middle, x}, scratch.attention, entropies);
    feed_forward_.forward(device, norm_2_.forward(device, input_of_second(x)), {output, middle});
    return output;
  }

  /// Turns the gradient of the output into that of x, in place. `entropies` is EntropyGradients, or
  /// Unobserved.
  template <class Gradients>
  void backward(Device& device, BatchShape shape, Matrix<const Scalar> x, Matrix<Scalar> d_stream,
                const BlockScratch<Device>& scratch, Gradients entropies) {
    const Matrix<const Scalar> x_2 = input_of_second(x);
    // Both parallel sublayers need the gradient of the output: the first one leaves it as it is.
    const Output<Scalar> d_x_2(parallel_ ? scratch.d_stream.top(x.rows) : d_stream, d_stream);
    const Output<Scalar> d_x(d_stream, d_x_2.matrix);

    const Output<Scalar> d_norm_2 = norm_2_.gradient_of_output(d_x_2, scratch.norm);
    feed_forward_.backward(device, norm_2_.output(x_2), d_stream, d_norm_2, scratch.wide);
    norm_2_.backward(device, x_2, d_norm_2, d_x_2);

    const Output<Scalar> d_norm_1 = norm_1_.gradient_of_output(d_x, scratch.norm);
    attention_.backward(device, shape, norm_1_.output(x), d_stream, d_norm_1, scratch.wide, scratch.attention,
                        entropies);
    norm_1_.backward(device, x, d_norm_1, d_x);
  }

  Matrix<Scalar> output(Index rows) const { return output_.top(rows); }

  /// The feed-forward network's hidden layer after the activation, (B, T, ffn_width).
  Matrix<const Scalar> hidden(Index rows) const { return feed_forward_.hidden(rows); }

 private:
  /// What norm_2 reads.
  Matrix<const Scalar> input_of_second(Matrix<const Scalar> x) const {
    return parallel_ ? x : Matrix<const Scalar>(middle_.top(x.rows));
  }

  bool parallel_;
  Normalization<N, Device> norm_1_;
  Attention<Device> attention_;
  Normalization<N, Device> norm_2_;
  FeedForward<A, Device> feed_forward_;
  Matrix<Scalar> middle_;  // (B, T, C), x + attention(norm_1(x))
  Matrix<Scalar> output_;  // (B, T, C), that and the feed-forward network's output
};

}  // namespace lnfree
