#pragma once

#include <cstdint>

#include <lnfree/core/memory.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/eight_bit_products.hpp>
#include <lnfree/device/cuda/int8_factors.hpp>
#include <lnfree/device/cuda/tensor_core_product.hpp>

namespace lnfree::cuda {

/// The format of CudaInt8: integers from -127 to 127 with a scale for each row of a factor.
struct Int8 {
  static constexpr const char *name = "INT8", *suffix = "_int8";
  static constexpr int capability = 80;
  static constexpr Index max_depth = max_int8_depth;

  struct Weight {
    Matrix<std::int8_t> stored;      ///< (in, out)
    Matrix<std::int8_t> transposed;  ///< (out, in)
    float* stored_scales;            ///< (in)
    float* transposed_scales;        ///< (out)
  };
  template <FactorKind>
  using Rounding = RowRounding;

  static Weight plan(Arena& arena, Index in, Index out) {
    return {arena.matrix<std::int8_t>(in, out), arena.matrix<std::int8_t>(out, in), arena.take<float>(in),
            arena.take<float>(out)};
  }

  /// The scales come first, then the numbers.
  static Index scale_bytes(Index rows) {
    return (rows + factor_pack - 1) / factor_pack * factor_pack * static_cast<Index>(sizeof(float));
  }
  static Index factor_bytes(Index rows, Index cols) { return scale_bytes(rows) + rows * cols; }

  static void round(Stream& stream, const RoundedWeight<Int8>& w) {
    round_rows(stream, w.weight, w.rounded.stored, w.rounded.stored_scales);
    round_columns(stream, w.weight, w.rounded.transposed, w.rounded.transposed_scales);
  }

  /// Where the other factor is rounded to.
  struct OtherFactor {
    Matrix<std::int8_t> numbers;
    float* scales;  ///< (rows)
  };
  static OtherFactor other_factor(const RoundedWeight<Int8>& w, Index rows, Index cols) {
    auto* const bytes = static_cast<std::int8_t*>(w.other_factor);
    return {Matrix<std::int8_t>(bytes + scale_bytes(w.max_rows), rows, cols),
            static_cast<float*>(w.other_factor)};
  }

  template <FactorKind>
  static RowRounding rounding(const RoundedWeight<Int8>& w, Matrix<const BFloat16> factor) {
    const OtherFactor to = other_factor(w, factor.rows, factor.cols);
    return {factor.data, static_cast<int>(factor.cols), to.numbers.data, to.scales};
  }
  static void discard(Stream&, const RoundedWeight<Int8>&, FactorKind) {}

  static void multiply(EightBitProducts<Int8>& device, const RoundedWeight<Int8>& w,
                       const WeightProduct& product) {
    const auto& [x, kind, transposed, first, count, c, bias, relu, is_rounded] = product;
    const auto [rounded, scales] = other_factor(w, x.rows, x.cols);
    if (!is_rounded) round_rows(device.stream(), x, rounded, scales);
    const Matrix<const std::int8_t> by =
        transposed ? w.rounded.stored.columns(first, count) : w.rounded.transposed.slice(first, count);
    const float* const by_scales = transposed ? w.rounded.stored_scales : w.rounded.transposed_scales + first;
    cuda::multiply<std::int8_t>(device.stream(), {rounded, by, scales, by_scales, c, bias, relu});
  }
};

/// Like Cuda, but the products x W and d_y W^T have factors in INT8 with a scale for each row, and exact
/// sums. The gradients of weights, the output matrix, attention and everything else are computed as on Cuda,
/// and so are products whose sizes are not multiples of 16. Throws NoDevice unless the GPU has compute
/// capability 8.0 or higher.
struct CudaInt8 : EightBitProducts<Int8> {};

}  // namespace lnfree::cuda

namespace lnfree {
using cuda::CudaInt8;

static_assert(Device<CudaInt8>);

}  // namespace lnfree
