#pragma once

#include <limits>
#include <type_traits>

#include <lnfree/core/float8.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/eight_bit_products.hpp>
#include <lnfree/device/cuda/fp8_factors.hpp>
#include <lnfree/device/primitives.hpp>

namespace lnfree::cuda {

/// The format of CudaFP8, with one scale for each factor.
struct FP8 {
  static constexpr const char *name = "FP8", *suffix = "_fp8";
  static constexpr int capability = 89;
  static constexpr Index max_depth = std::numeric_limits<Index>::max();

  struct Weight {
    Matrix<E4M3> stored;      ///< (in, out)
    Matrix<E4M3> transposed;  ///< (out, in)
    Scale* scale;             ///< Of both layouts.
    Scale* input_scale;       ///< Of x in x W.
    Scale* gradient_scale;    ///< Of d_y in d_y W^T.
  };

  template <FactorKind Kind>
  using Number = std::conditional_t<Kind == FactorKind::input, E4M3, E5M2>;
  template <FactorKind Kind>
  using Rounding = MatrixRounding<Number<Kind>>;

  static Weight plan(Arena& arena, Index in, Index out) {
    return {arena.matrix<E4M3>(in, out), arena.matrix<E4M3>(out, in), arena.take<Scale>(1),
            arena.take<Scale>(1), arena.take<Scale>(1)};
  }
  static Index factor_bytes(Index rows, Index cols) { return rows * cols; }

  static void round(Stream& stream, const RoundedWeight<FP8>& w) {
    round_factor(stream, RoundBothWays<E4M3>{w.weight, w.rounded.stored, w.rounded.transposed},
                 w.rounded.scale);
  }

  /// The scale of x in x W, or of d_y in d_y W^T.
  static Scale* scale_of(const RoundedWeight<FP8>& w, FactorKind kind) {
    return kind == FactorKind::input ? w.rounded.input_scale : w.rounded.gradient_scale;
  }

  template <FactorKind Kind>
  static Rounding<Kind> rounding(const RoundedWeight<FP8>& w, Matrix<const BFloat16> factor) {
    return {factor.data, static_cast<Number<Kind>*>(w.other_factor), scale_of(w, Kind)};
  }
  static void discard(Stream& stream, const RoundedWeight<FP8>& w, FactorKind kind) {
    unsigned* const max = &scale_of(w, kind)->max;
    stream.fill_zero(max, sizeof(*max));
  }

  static void multiply(EightBitProducts<FP8>& device, const RoundedWeight<FP8>& w,
                       const WeightProduct& product) {
    product.kind == FactorKind::input ? multiply<FactorKind::input>(device, w, product)
                                      : multiply<FactorKind::gradient>(device, w, product);
  }

 private:
  template <FactorKind Kind>
  static void multiply(EightBitProducts<FP8>& device, const RoundedWeight<FP8>& w,
                       const WeightProduct& product) {
    // cuBLASLt multiplies in eight bits only if both factors are contiguous along the summed dimension.
    const Matrix<const E4M3> by = product.transposed
                                      ? w.rounded.stored.columns(product.first, product.count)
                                      : w.rounded.transposed.slice(product.first, product.count);
    using F = Number<Kind>;
    Scale* const scale = scale_of(w, Kind);
    const Matrix<F> rounded(static_cast<F*>(w.other_factor), product.x.rows, product.x.cols);
    RoundRows<F> rows{product.x, rounded};
    as_one_row(rows.from, rows.to);
    round_factor(device.stream(), rows, scale, product.is_rounded);
    device.handles->products.run(Operand<F>(rounded), transpose(by), product.c, product.bias, product.relu,
                                 {&scale->value, &w.rounded.scale->value});
  }
};

/// Like Cuda, but the products x W and d_y W^T have factors in eight bits and are summed in float: E4M3 for
/// activations and weights, E5M2 for gradients. The gradients of weights, logits, attention and everything
/// else are computed as on Cuda, and so are products whose sizes are not multiples of 16. Throws NoDevice
/// unless the GPU has compute capability 8.9 or higher.
struct CudaFP8 : EightBitProducts<FP8> {};

/// Like CudaFP8, but logits and the gradient of what they are computed from have factors in eight bits, too.
struct CudaFP8Head : CudaFP8 {
  static constexpr bool rounds_output_matrix = true;
};

}  // namespace lnfree::cuda

namespace lnfree {
using cuda::CudaFP8;
using cuda::CudaFP8Head;

static_assert(Device<CudaFP8> && Device<CudaFP8Head>);

}  // namespace lnfree
