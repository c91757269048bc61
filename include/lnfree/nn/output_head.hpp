#pragma once

#include <algorithm>
#include <cstdint>

#include <lnfree/core/config.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/nn/parameter.hpp>

namespace lnfree {

/// The logits that exist at a time: some rows of V, with the distance from one to the next.
struct LogitsChunk {
  Index rows, stride;
  Index size() const { return rows * stride; }
};

/// Of a device's model for passes of up to `max_shape`: as many rows as the device wants at a time, but
/// enough for an efficient product; chunks of equal size.
template <class Device>
LogitsChunk logits_chunk(BatchShape max_shape, Index vocab) {
  using Scalar = typename Device::Scalar;
  constexpr Index min_rows = 1024 / sizeof(Scalar), wanted = Device::logits_bytes / sizeof(Scalar);
  const Index rows = std::min(max_shape.rows(), std::max(min_rows, wanted / vocab));
  const Index chunks = (max_shape.rows() + rows - 1) / rows;
  // Rows a power of two apart would share their places in the cache: one line more keeps them apart.
  return {(max_shape.rows() + chunks - 1) / chunks, (vocab + 15) / 16 * 16 + 16};
}

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
    const LogitsChunk chunk = logits_chunk<Device>(max_shape, weight_.shape[0]);
    logits_ = {arena.take<Scalar>(chunk.size()), chunk.rows, weight_.shape[0], chunk.stride};
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

  /// The logits of the first rows of x, as many as exist at a time, valid until the next pass.
  Matrix<Scalar> logits(Device& device, Matrix<const Scalar> x) {
    const Index rows = std::min(x.rows, logits_.rows);
    gemm(device, x.top(rows), transpose(weight_.value_matrix()), logits_.top(rows));
    return logits_.top(rows);
  }

 private:
  template <class F>
  void for_chunks(Index rows, F&& f) const {
    for (Index begin = 0; begin < rows; begin += logits_.rows) f(begin, std::min(logits_.rows, rows - begin));
  }

  Parameter<Device>& weight_;
  Matrix<Scalar> logits_;
};

}  // namespace lnfree
