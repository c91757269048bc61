#pragma once

#include <limits>

#include <lnfree/core/concepts.hpp>
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

  /// The other factor of the next product, if the kernel that computes it can also round it.
  struct Expected {
    Matrix<const BFloat16> factor;
    const RoundedWeight<FP8>* weight = nullptr;
    Scale* scale = nullptr;  ///< Its scale, once it has been rounded into the weight's other_factor.
  };

  static Weight plan(Arena& arena, Index in, Index out) {
    return {arena.matrix<E4M3>(in, out), arena.matrix<E4M3>(out, in), arena.take<Scale>(1),
            arena.take<Scale>(1), arena.take<Scale>(1)};
  }
  static Index factor_bytes(Index rows, Index cols) { return rows * cols; }

  static void round(Stream& stream, const RoundedWeight<FP8>& w) {
    round_factor(stream, RoundBothWays<E4M3>{w.weight, w.rounded.stored, w.rounded.transposed},
                 w.rounded.scale);
  }

  static void multiply(EightBitProducts<FP8>& device, const RoundedWeight<FP8>& w,
                       const WeightProduct& product);
};

/// Like Cuda, but the products x W and d_y W^T have factors in eight bits and are summed in float: E4M3 for
/// activations and weights, E5M2 for gradients. The gradients of weights, the output matrix, attention and
/// everything else are computed as on Cuda, and so are products whose sizes are not multiples of 16. Throws
/// NoDevice unless the GPU has compute capability 8.9 or higher.
struct CudaFP8 : EightBitProducts<FP8> {};

/// Cancels expect_product(). A factor that was already rounded is discarded.
inline void forget_expected(EightBitProducts<FP8>& device) {
  auto& expected = device.rounded_weights->expected;
  if (expected.scale != nullptr) device.stream().fill_zero(&expected.scale->max, sizeof(expected.scale->max));
  expected = {};
}

/// Multiplies x by `b`, with x rounded to the format F first.
template <class F>
void rounded_product(EightBitProducts<FP8>& device, const RoundedWeight<FP8>& w, const WeightProduct& product,
                     Scale* x_scale, Operand<E4M3> b) {
  const Matrix<const BFloat16> x = product.x;
  const Matrix<F> rounded(static_cast<F*>(w.other_factor), x.rows, x.cols);
  auto& expected = device.rounded_weights->expected;
  const bool is_guessed = expected.scale == x_scale && expected.factor.data == x.data;
  if (is_guessed) {
    expected = {};
  } else if (expected.scale != nullptr) {
    forget_expected(device);  // this product overwrites its memory
  }
  RoundRows<F> rows{x, rounded};
  as_one_row(rows.from, rows.to);
  round_factor(device.stream(), rows, x_scale, is_guessed);
  device.handles->products.run(Operand<F>(rounded), b, product.c, product.bias, product.relu,
                               {&x_scale->value, &w.rounded.scale->value});
}

inline void FP8::multiply(EightBitProducts<FP8>& device, const RoundedWeight<FP8>& w,
                          const WeightProduct& product) {
  // cuBLASLt multiplies in eight bits only if both factors are contiguous along the summed dimension.
  if (product.backwards) {
    rounded_product<E5M2>(device, w, product, w.rounded.gradient_scale,
                          transpose(w.rounded.stored.columns(product.first, product.count)));
  } else {
    rounded_product<E4M3>(device, w, product, w.rounded.input_scale,
                          transpose(w.rounded.transposed.slice(product.first, product.count)));
  }
}

/// Announces that the next primitive to write `factor` writes all of it, and that the next product with a
/// weight is that of `factor` and `weight`. That primitive can then round the factor as well.
inline void expect_product(CudaFP8& device, Matrix<const BFloat16> factor, Matrix<const BFloat16> weight) {
  const RoundedWeight<FP8>* const w = device.rounded_weights->find(weight);
  const bool suits = w != nullptr && suits_eight_bits(factor) && factor.is_contiguous() &&
                     factor.rows % factor_pack == 0 && factor.rows <= w->max_rows;
  forget_expected(device);
  if (suits) device.rounded_weights->expected = {factor, w, nullptr};
}

/// Whether `made` is the announced factor, and `from`, of the same size, can be read in the same packs.
inline bool is_expected(CudaFP8& device, Matrix<const BFloat16> made, Matrix<const BFloat16> from) {
  const Matrix<const BFloat16>& factor = device.rounded_weights->expected.factor;
  return factor.data == made.data && factor.rows == made.rows && factor.cols == made.cols &&
         made.is_contiguous() && from.is_contiguous() && suits_eight_bits(from);
}

/// `body`, which computes the announced factor, extended to round it as well.
template <class F, class Body>
AndRound<F, Body> and_round(CudaFP8& device, const Body& body, Scale* FP8::Weight::* scale) {
  auto& expected = device.rounded_weights->expected;
  Matrix<const BFloat16> made = expected.factor;
  Matrix<F> to(static_cast<F*>(expected.weight->other_factor), made.rows, made.cols);
  as_one_row(made, to);
  expected.scale = expected.weight->rounded.*scale;
  return {body, made, to, expected.scale};
}

template <Activation A>
void activation_forward(CudaFP8& device, A activation, Matrix<const BFloat16> x, const BFloat16* parameter,
                        Matrix<BFloat16> y) {
  if (!is_expected(device, y, x)) {
    activation_forward(static_cast<Cuda&>(device), activation, x, parameter, y);
    return;
  }
  as_one_row(x, y);
  for_each_pack<pack_size<BFloat16>>(
      device.stream(), 1, x.cols,
      and_round<E4M3>(device, ActivationForward<A, BFloat16>{x, parameter, y}, &FP8::Weight::input_scale));
}

template <Activation A>
void activation_backward(CudaFP8& device, A activation, Matrix<const BFloat16> saved,
                         const BFloat16* parameter, Matrix<BFloat16> d_y, float* d_parameter) {
  if (!is_expected(device, d_y, saved)) {
    activation_backward(static_cast<Cuda&>(device), activation, saved, parameter, d_y, d_parameter);
    return;
  }
  as_one_row(saved, d_y);
  const auto body = and_round<E5M2>(device, ActivationBackward<A, BFloat16>{saved, parameter, d_y},
                                    &FP8::Weight::gradient_scale);
  if constexpr (LearnableActivation<A>) {
    for_each_pack_and_sum<pack_size<BFloat16>, 1>(device, 1, saved.cols, body, {d_parameter});
  } else {
    for_each_pack<pack_size<BFloat16>>(device.stream(), 1, saved.cols, body);
  }
}

}  // namespace lnfree::cuda

namespace lnfree {
using cuda::CudaFP8;

static_assert(Device<CudaFP8>);

}  // namespace lnfree
