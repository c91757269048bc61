#pragma once

#include <lnfree/activation/call.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/device.hpp>
#include <lnfree/device/cuda/factor_rounding.hpp>
#include <lnfree/device/cuda/gelu.hpp>
#include <lnfree/device/cuda/packs.hpp>

namespace lnfree::cuda {

/// An activation's parameter, read from device memory; 0 for an activation without one.
template <class A, class S>
__device__ float parameter_of([[maybe_unused]] const S* parameter) {
  if constexpr (LearnableActivation<A>) {
    return static_cast<float>(*parameter);
  } else {
    return 0;
  }
}

template <class A, class S>
struct ActivationForward {
  Matrix<const S> x;
  const S* parameter;
  Matrix<S> y;

  template <int N>
  __device__ auto at(Index i, Index j) const {
    const float p = parameter_of<A>(parameter);
    Floats<N> values = load<N>(x.row(i) + j);
#pragma unroll
    for (int e = 0; e < N; ++e) values[e] = activation_value<KernelActivation<A, S>>(values[e], p);
    return store<N>(y.row(i) + j, values);
  }
};

template <class A, class S>
struct ActivationBackward {
  Matrix<const S> saved;
  const S* parameter;
  Matrix<S> d_y;

  template <int N>
  __device__ auto at(Index i, Index j) const {
    const float p = parameter_of<A>(parameter);
    S* const gradient = d_y.row(i) + j;
    const Floats<N> x = load<N>(saved.row(i) + j);
    Floats<N> d = load<N>(gradient);
#pragma unroll
    for (int e = 0; e < N; ++e) d[e] *= activation_derivative<KernelActivation<A, S>>(x[e], p);
    return store<N>(gradient, d);
  }

  /// Also adds to the parameter's gradient.
  template <int N>
  __device__ auto at(Index i, Index j, float (&sums)[1]) const {
    const float p = parameter_of<A>(parameter);
    const Floats<N> x = load<N>(saved.row(i) + j), d = load<N>(d_y.row(i) + j);
#pragma unroll
    for (int e = 0; e < N; ++e) sums[0] += d[e] * A::parameter_derivative(x[e], p);
    return at<N>(i, j);
  }
};

template <CudaDevice D, Activation A>
void activation_forward(D& device, A, Matrix<const typename D::Scalar> x, const typename D::Scalar* parameter,
                        Matrix<typename D::Scalar> y) {
  using S = typename D::Scalar;
  compute_elementwise<FactorKind::input>(device, x, y, [&](Matrix<const S> from, Matrix<S> made) {
    return ActivationForward<A, S>{from, parameter, made};
  });
}

template <CudaDevice D, Activation A>
void activation_backward(D& device, A, Matrix<const typename D::Scalar> saved,
                         const typename D::Scalar* parameter, Matrix<typename D::Scalar> d_y,
                         [[maybe_unused]] float* d_parameter) {
  using S = typename D::Scalar;
  const auto body_of = [&](Matrix<const S> from, Matrix<S> made) {
    return ActivationBackward<A, S>{from, parameter, made};
  };
  if constexpr (LearnableActivation<A>) {
    compute_elementwise<FactorKind::gradient>(device, saved, d_y, body_of, d_parameter);
  } else {
    compute_elementwise<FactorKind::gradient>(device, saved, d_y, body_of);
  }
}

}  // namespace lnfree::cuda
