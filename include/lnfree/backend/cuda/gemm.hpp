#pragma once

#include <cassert>

#include <lnfree/backend/cuda/device.hpp>
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
inline void gemm(CudaFp32& device, Operand<float> a, Operand<float> b, Output<float> c) {
  product(device, a, b, c);
}

}  // namespace lnfree::cuda
