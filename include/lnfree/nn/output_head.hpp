#pragma once

#include <algorithm>
#include <cstdint>

#include <lnfree/core/config.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/nn/parameter.hpp>

namespace lnfree {

/// logits = x W^T with W (V, C), the token embedding itself when tied, and their cross-entropy. The logits
/// exist for a chunk of rows at a time: at V = 50,000 they would otherwise be the largest tensor of the
/// model.
template <class Device>
class OutputHead {
 public:
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;

  OutputHead(ParameterSet<Device>& parameters, const DecoderConfig& config, Parameter<Device>& token_table)
      : weight_(config.tied_output ? token_table
                                   : parameters.add("lm_head.weight", {config.vocab_size, config.width},
                                                    ParameterKind::embedding)) {}

  void plan(Arena& arena, BatchShape max_shape) {
    // As many rows as the device wants at a time, but enough for an efficient product; chunks of equal size.
    const Index vocab = weight_.shape[0];
    constexpr Index min_rows = 1024 / sizeof(Scalar), wanted = Device::logits_bytes / sizeof(Scalar);
    const Index rows = std::min(max_shape.rows(), std::max(min_rows, wanted / vocab));
    const Index chunks = (max_shape.rows() + rows - 1) / rows;
    chunk_rows_ = (max_shape.rows() + chunks - 1) / chunks;
    // Rows a power of two apart would share their places in the cache: one line more keeps them apart.
    const Index stride = (vocab + 15) / 16 * 16 + 16;
    logits_ = {arena.take<Scalar>(chunk_rows_ * stride), chunk_rows_, vocab, stride};
  }

  /// Calls f(first row, logits) for chunk after chunk of the rows of x.
  template <class F>
  void forward(Device& device, Matrix<const Scalar> x, const F& f) {
    for_chunks(x.rows, [&](Index begin, Index count) {
      gemm(device, x.slice(begin, count), transpose(weight_.value_matrix()), logits_.top(count));
      f(begin, logits_.top(count));
    });
  }

  /// The same with an f that leaves the gradient of the logits in their place; from there to d_x, and d_W
  /// added to.
  template <class F>
  void forward_backward(Device& device, Matrix<const Scalar> x, Output<Scalar> d_x, const F& f) {
    forward(device, x, [&](Index begin, Matrix<Scalar> logits) {
      f(begin, logits);
      gemm(device, transpose(logits), x.slice(begin, logits.rows), accumulate(weight_.gradient_matrix()));
      gemm(device, logits, weight_.value_matrix(), d_x.slice(begin, logits.rows));
    });
  }

  /// The logits (1, V) of one row of x, valid until the next pass.
  Matrix<const Scalar> logits(Device& device, Matrix<const Scalar> x) {
    gemm(device, x, transpose(weight_.value_matrix()), logits_.top(1));
    return logits_.top(1);
  }

 private:
  template <class F>
  void for_chunks(Index rows, F&& f) const {
    for (Index begin = 0; begin < rows; begin += chunk_rows_) f(begin, std::min(chunk_rows_, rows - begin));
  }

  Parameter<Device>& weight_;
  Index chunk_rows_ = 0;
  Matrix<Scalar> logits_;
};

}  // namespace lnfree
