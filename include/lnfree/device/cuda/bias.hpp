#pragma once

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/device.hpp>
#include <lnfree/device/cuda/packs.hpp>
#include <lnfree/device/cuda/reduce.hpp>

namespace lnfree::cuda {

template <class S>
struct AddBias {
  Matrix<S> y;
  const S* bias;

  template <int N>
  __device__ void at(Index i, Index j) const {
    S* const to = y.row(i) + j;
    Floats<N> sum = load<N>(to);
    const Floats<N> b = load<N>(bias + j);
#pragma unroll
    for (int e = 0; e < N; ++e) sum[e] += b[e];
    store<N>(to, sum);
  }
};

template <CudaDevice D>
void bias_forward(D& device, Matrix<typename D::Scalar> y, const typename D::Scalar* bias) {
  using S = typename D::Scalar;
  with_packs<pack_size<S>>(
      [&](auto n) { for_each_pack<n()>(device.stream(), y.rows, y.cols, AddBias<S>{y, bias}); }, y,
      Matrix(bias, 1, y.cols));
}

template <class S>
struct BiasGradient {
  Matrix<const S> d_y;

  template <int N>
  __device__ void add(Index i, Index j, Floats<N> (&sums)[1]) const {
    const Floats<N> d = load<N>(d_y.row(i) + j);
#pragma unroll
    for (int e = 0; e < N; ++e) sums[0][e] += d[e];
  }
};

template <CudaDevice D>
void bias_backward(D& device, Matrix<const typename D::Scalar> d_y, float* d_bias) {
  using S = typename D::Scalar;
  with_packs<4>(
      [&](auto n) {
        add_column_sums<n()>(device, d_y.rows, d_y.cols, BiasGradient<S>{d_y}, ColumnSums<1>{d_bias});
      },
      d_y);
}

}  // namespace lnfree::cuda
