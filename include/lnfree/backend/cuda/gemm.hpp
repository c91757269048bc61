#pragma once

#include <cassert>
#include <concepts>

#include <lnfree/activation/relu.hpp>
#include <lnfree/backend/cuda/activation.hpp>
#include <lnfree/backend/cuda/bias.hpp>
#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/primitives.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cuda {

template <class S, class T>
void product(Gpu& device, Operand<S> a, Operand<S> b, Output<T> c) {
  assert(a.rows() == c.matrix.rows && b.cols() == c.matrix.cols && a.cols() == b.rows());
  device.handles->products.run(a, b, c);
}

inline void gemm(Cuda& device, Operand<BFloat16> a, Operand<BFloat16> b, Output<BFloat16> c) {
  product(device, a, b, c);
}
inline void gemm(Cuda& device, Operand<BFloat16> a, Operand<BFloat16> b, Output<float> c) {
  product(device, a, b, c);
}
/// ReLU is the only activation in the epilogue: cuBLASLt's GELU is an approximation.
template <class A>
requires(std::same_as<A, Unactivated> || std::same_as<A, ReLU>)
inline void gemm(Cuda& device, Operand<BFloat16> a, Operand<BFloat16> b, Output<BFloat16> c,
                 Epilogue<BFloat16, A> epilogue) {
  constexpr bool relu = std::same_as<A, ReLU>;
  // cuBLASLt may lack the epilogue for matrices whose rows are not aligned to 16 bytes.
  if (device.handles->products.is_aligned(a, b, c)) {
    device.handles->products.run(a, b, c, epilogue.bias, relu);
    return;
  }
  product(device, a, b, c);
  if (epilogue.bias != nullptr) bias_forward(device, c.matrix, epilogue.bias);
  if constexpr (relu) {
    activation_forward(device, ReLU(), Matrix<const BFloat16>(c.matrix),
                       static_cast<const BFloat16*>(nullptr), c.matrix);
  }
}
inline void gemm(CudaFp32& device, Operand<float> a, Operand<float> b, Output<float> c) {
  product(device, a, b, c);
}

}  // namespace lnfree::cuda
