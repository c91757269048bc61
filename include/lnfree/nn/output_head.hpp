#pragma once

#include <algorithm>
#include <cstdint>

#include <lnfree/core/config.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/nn/parameter.hpp>

namespace lnfree {

/// Size of the chunk of logits that is in memory at a time: a number of rows of V, and their stride.
struct LogitsChunk {
  Index rows, stride;
  Index size() const { return rows * stride; }
};

/// The chunk of a model for passes of up to `max_shape`: as many rows as the device asks for, but enough for
/// an efficient product, in chunks of equal size. Tensor cores want a multiple of 16 rows.
template <class Device>
LogitsChunk logits_chunk(BatchShape max_shape, Index vocab) {
  using Scalar = typename Device::Scalar;
  constexpr Index min_rows = 1024 / sizeof(Scalar), wanted = Device::logits_bytes / sizeof(Scalar);
  const Index rows = std::min(max_shape.rows(), std::max(min_rows, wanted / vocab));
  const Index chunks = (max_shape.rows() + rows - 1) / rows;
  // Rows a power of two apart would compete for the same cache sets, so the stride is one cache line longer.
  const Index equal = (max_shape.rows() + chunks - 1) / chunks;
  return {std::min(max_shape.rows(), (equal + 15) / 16 * 16), (vocab + 15) / 16 * 16 + 16};
}

/// logits = x W^T with W (V, C), which is the token embedding if tied, and their cross-entropy. The logits
/// are computed a chunk of rows at a time: at V = 50,000 they would otherwise be the model's largest tensor.
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

  /// The output matrix W (V, C).
  Matrix<const Scalar> weight() const { return weight_.value_matrix(); }

  /// Calls f(first_row, logits) for each chunk of the rows of x.
  template <class F>
  void forward(Device& device, Matrix<const Scalar> x, const F& f) {
    for_chunks(x.rows, [&](Index begin, Index count) {
      gemm(device, x.slice(begin, count), transpose(weight_.value_matrix()), logits_.top(count));
      f(begin, logits_.top(count));
    });
  }

  /// The same with an f that overwrites the logits with their gradient. Then computes d_x from it and adds to
  /// d_W.
  template <class F>
  void forward_backward(Device& device, Matrix<const Scalar> x, Output<Scalar> d_x, const F& f) {
    forward(device, x, [&](Index begin, Matrix<Scalar> logits) {
      f(begin, logits);
      gemm(device, transpose(logits), x.slice(begin, logits.rows), accumulate(weight_.gradient_matrix()));
      gemm(device, logits, weight_.value_matrix(), d_x.slice(begin, logits.rows));
    });
  }

  /// The logits of the first rows of x, one chunk, valid until the next pass.
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
