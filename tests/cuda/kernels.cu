#include <cstdio>
#include <string>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/activation/leaky_learnable.hpp>
#include <lnfree/activation/leaky_relu.hpp>
#include <lnfree/activation/relu.hpp>
#include <lnfree/activation/silu.hpp>
#include <lnfree/activation/squared_relu.hpp>
#include <lnfree/device/cuda/cuda.hpp>
#include <lnfree/device/cuda/fp8.hpp>
#include <lnfree/device/cuda/int8.hpp>
#include <lnfree/norm/dynamic_erf.hpp>
#include <lnfree/norm/dynamic_tanh.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/norm/rms_norm.hpp>
#include <lnfree/optim/adamw.hpp>

/// Instantiates every kernel of the library for a GPU compiler, in a program that reports whether it finds a
/// GPU.
namespace {

using namespace lnfree;

template <class D, class A>
void compile_activation(D& device, A activation) {
  using S = typename D::Scalar;
  activation_forward(device, activation, Matrix<const S>(), static_cast<const S*>(nullptr), Matrix<S>());
  activation_backward(device, activation, Matrix<const S>(), static_cast<const S*>(nullptr), Matrix<S>(),
                      static_cast<float*>(nullptr));
}

template <class D, class N>
void compile_norm(D& device, N norm) {
  using S = typename D::Scalar;
  NormRow<float>* const rows = nullptr;
  norm_forward(device, norm, Matrix<const S>(), NormPointers<const S, N>{}, Output<S>(Matrix<S>()), rows);
  norm_backward(device, norm, Matrix<const S>(), NormPointers<const S, N>{}, rows, Matrix<const S>(),
                Output<S>(Matrix<S>()), NormPointers<float, N>{});
}

/// Never run on a GPU: the pointers are invalid.
template <class D>
void compile_all(D& device) {
  using S = typename D::Scalar;
  const Matrix<S> matrix;
  const Matrix<const S> input;
  S* const numbers = nullptr;
  float* const sums = nullptr;
  std::int32_t* const tokens = nullptr;
  gemm(device, matrix, matrix, Output<S>(matrix));
  gemm(device, matrix, matrix, Output<float>(Matrix<float>()));
  bias_forward(device, matrix, numbers);
  bias_backward(device, input, sums);
  compile_norm(device, LayerNorm{});
  compile_norm(device, RMSNorm{});
  compile_norm(device, DynamicTanh{});
  compile_norm(device, DynamicErf{});
  compile_activation(device, GELU{});
  compile_activation(device, GELUTanh{});
  compile_activation(device, ReLU{});
  compile_activation(device, SquaredReLU{});
  compile_activation(device, SiLU{});
  compile_activation(device, LeakyReLU<>{});
  compile_activation(device, LeakyLearnable<Scope::global>{});
  attention_forward(device, AttentionShape{}, input, matrix, sums, sums, Unobserved{});
  attention_forward(device, AttentionShape{}, input, matrix, sums, sums, RowEntropies<float>{sums});
  attention_backward(device, AttentionShape{}, input, input, sums, input, matrix, sums, Unobserved{});
  attention_backward(device, AttentionShape{}, input, input, sums, input, matrix, sums,
                     EntropyGradients<float>{sums, sums});
  entropy_sums(device, Matrix<const float>(), sums, tokens);
  entropy_penalty(device, EntropyPenalty{}, 1, Matrix<const float>(), numbers, sums, Matrix<float>(), sums);
  rotary(device, AttentionShape{}, 2, matrix, false);
  column_squares(device, input, sums);
  count_zeros(device, input);
  embedding_forward(device, BatchShape{}, tokens, input, input, matrix);
  embedding_backward(device, BatchShape{}, tokens, input, Matrix<float>(), Matrix<float>());
  dropout(device, matrix, 0.1, Philox(0, 0));
  cross_entropy_forward(device, input, tokens, sums);
  cross_entropy_forward_backward(device, matrix, tokens, sums, 1.0);
  sum_of(device, 0, Square{}, static_cast<const float*>(sums));
  const AdamWRule<float> rule({}, 1e-3, 0.1, 1, 1);
  for_each_element(device, 0, ApplyRuleAndCopy<AdamWRule<float>>{rule}, sums, sums, numbers, sums, sums);
}

template void compile_all(Cuda&);
template void compile_all(CudaFp32&);

/// What devices that multiply in eight bits have beside Cuda's.
template <class D>
void compile_eight_bits(D& device, RoundedWeights<D>& weights) {
  const Matrix<BFloat16> matrix;
  gemm(device, matrix, matrix, Output<BFloat16>(matrix));
  gemm(device, matrix, matrix, Output<float>(Matrix<float>()));
  weights.update(device, 0);
  compile_norm(device, LayerNorm{});
  compile_norm(device, RMSNorm{});
  compile_activation(device, GELU{});
  compile_activation(device, LeakyLearnable<Scope::global>{});
}
template void compile_eight_bits(CudaFP8&, RoundedWeights<CudaFP8>&);
template void compile_eight_bits(CudaFP8Head&, RoundedWeights<CudaFP8Head>&);
template void compile_eight_bits(CudaInt8&, RoundedWeights<CudaInt8>&);

/// What CudaFP8 alone has: attention that rounds its results.
template <class D>
void compile_fp8(D& device) {
  const Matrix<BFloat16> matrix;
  const Matrix<const BFloat16> input;
  float* const sums = nullptr;
  attention_forward(device, AttentionShape{}, input, matrix, sums, sums, RowEntropies<float>{sums});
  attention_backward(device, AttentionShape{}, input, input, sums, input, matrix, sums, Unobserved{});
}
template void compile_fp8(CudaFP8&);

/// The kernel of CudaInt8's products, which benchmarks use in bf16, too.
template <class T>
void compile_product(cuda::Stream& stream) {
  const Matrix<T> factor;
  cuda::multiply<T>(stream, {factor, factor, nullptr, nullptr, Matrix<BFloat16>(), nullptr, false});
}
template void compile_product<BFloat16>(cuda::Stream&);

}  // namespace

int main() {
  try {
    Cuda device;
    std::puts("a GPU is here");
    return 0;
  } catch (const NoDevice& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 4;
  }
}
