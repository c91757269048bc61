#pragma once

#include <algorithm>
#include <array>

#include <lnfree/activation/call.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>

namespace lnfree::cpu {

template <CpuDevice D, Activation A>
void activation_forward(D&, A, Matrix<const typename D::Scalar> x, const typename D::Scalar* parameter,
                        Matrix<typename D::Scalar> y) {
  using S = typename D::Scalar;
  const float p = parameter == nullptr ? 0.0f : static_cast<float>(*parameter);
  parallel_for(x.rows, row_grain(x.cols), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const S* in = x.row(i);
      S* out = y.row(i);
#pragma omp simd
      for (Index j = 0; j < x.cols; ++j) out[j] = activation_value<A>(static_cast<float>(in[j]), p);
    }
  });
}

template <CpuDevice D, Activation A>
void activation_backward(D&, A, Matrix<const typename D::Scalar> saved, const typename D::Scalar* parameter,
                         Matrix<typename D::Scalar> d_y, [[maybe_unused]] float* d_parameter) {
  using S = typename D::Scalar;
  const float p = parameter == nullptr ? 0.0f : static_cast<float>(*parameter);
  if constexpr (LearnableActivation<A>) {
    // A fixed number of partial sums, so that the result does not depend on the thread count.
    std::array<double, 64> partial{};
    const Index parts = static_cast<Index>(partial.size());
    parallel_for(parts, 1, [&](Index begin, Index end) {
      for (Index part = begin; part < end; ++part) {
        double total = 0;
        for (Index i = saved.rows * part / parts; i < saved.rows * (part + 1) / parts; ++i) {
          const S *in = saved.row(i), *d_out = d_y.row(i);
          float sum = 0;
#pragma omp simd reduction(+ : sum)
          for (Index j = 0; j < saved.cols; ++j)
            sum += d_out[j] * A::parameter_derivative(static_cast<float>(in[j]), p);
          total += static_cast<double>(sum);
        }
        partial[static_cast<std::size_t>(part)] = total;
      }
    });
    double total = 0;
    for (const double sum : partial) total += sum;
    *d_parameter += static_cast<float>(total);
  }
  parallel_for(saved.rows, row_grain(saved.cols), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const S* in = saved.row(i);
      S* gradient = d_y.row(i);
#pragma omp simd
      for (Index j = 0; j < saved.cols; ++j)
        gradient[j] *= activation_derivative<A>(static_cast<float>(in[j]), p);
    }
  });
}

}  // namespace lnfree::cpu
