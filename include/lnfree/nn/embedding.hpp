#pragma once

#include <cstdint>
#include <span>

#include <lnfree/core/config.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/nn/dropout.hpp>
#include <lnfree/nn/key_value_cache.hpp>
#include <lnfree/nn/parameter.hpp>

namespace lnfree {

/// x = token table row + position table row, then dropout. With rotary positions there is no position table.
template <class Device>
class Embedding {
 public:
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;

  Embedding(ParameterSet<Device>& parameters, const DecoderConfig& config)
      : tokens_(parameters.add("wte.weight", {config.vocab_size, config.width}, ParameterKind::embedding)),
        positions_(config.rotary_dims > 0
                       ? nullptr
                       : &parameters.add("wpe.weight", {config.position_rows(), config.width},
                                         ParameterKind::embedding)) {}

  void plan(Arena& arena, BatchShape max_shape) {
    x_ = arena.matrix<Scalar>(max_shape.rows(), tokens_.shape[1]);
  }

  Matrix<Scalar> forward(Device& device, BatchShape shape, const std::int32_t* tokens, Dropout drop) {
    embedding_forward(device, shape, tokens, tokens_.value_matrix(), positions(0, shape.length),
                      output(shape.rows()));
    if (drop.rate > 0) dropout(device, output(shape.rows()), drop.rate, drop.random());
    return output(shape.rows());
  }

  /// The same for the new tokens of several texts, one text after the other, without dropout.
  Matrix<Scalar> forward(Device& device, std::span<const TextPart> texts, const std::int32_t* tokens) {
    Index row = 0;
    for (const TextPart& text : texts) {
      embedding_forward(device, BatchShape{1, text.rows()}, tokens + row, tokens_.value_matrix(),
                        positions(text.first, text.rows()), x_.slice(row, text.rows()));
      row += text.rows();
    }
    return output(row);
  }

  /// Overwrites d_x.
  void backward(Device& device, BatchShape shape, const std::int32_t* tokens, Matrix<Scalar> d_x,
                Dropout drop) {
    if (drop.rate > 0) dropout(device, d_x, drop.rate, drop.random());
    embedding_backward(device, shape, tokens, d_x, tokens_.gradient_matrix(),
                       positions_ ? positions_->gradient_matrix() : Matrix<Accumulator>());
  }

  Matrix<Scalar> output(Index rows) const { return x_.top(rows); }
  Parameter<Device>& token_table() { return tokens_; }

 private:
  Matrix<const Scalar> positions(int first, int count) const {
    return positions_ ? positions_->value_matrix().slice(first, count) : Matrix<const Scalar>();
  }

  Parameter<Device>& tokens_;     // wte (V, C)
  Parameter<Device>* positions_;  // wpe (positions, C), if any
  Matrix<Scalar> x_;              // (B, T, C)
};

}  // namespace lnfree
