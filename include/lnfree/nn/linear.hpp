#pragma once

#include <algorithm>
#include <string>

#include <lnfree/device/primitives.hpp>
#include <lnfree/nn/parameter.hpp>

namespace lnfree {

/// y = x W + b with x (rows, in), W (in, out). Only the first `biased` columns have a bias.
template <class Device>
class Linear {
 public:
  using Scalar = typename Device::Scalar;

  /// `parts` is the number of matrices of equal size side by side, such as 3 for Q | K | V.
  Linear(ParameterSet<Device>& parameters, const std::string& name, Index in, Index out, Index biased,
         Index parts = 1)
      : weight_(parameters.add(name + ".weight", {in, out}, ParameterKind::weight)), biased_(biased) {
    weight_.parts = parts;
    if (biased == 0) return;
    bias_ = &parameters.add(name + ".bias", {out}, ParameterKind::bias);
    bias_->trainable = biased;
  }

  /// Call it before a primitive writes `factor`, if this layer is the next to read it, as x of forward() or
  /// d_y of backward().
  void expect([[maybe_unused]] Device& device, [[maybe_unused]] Matrix<const Scalar> factor) {
    if constexpr (ExpectsProducts<Device>) expect_product(device, factor, weight_.value_matrix());
  }

  void forward(Device& device, Matrix<const Scalar> x, Output<Scalar> y) {
    if constexpr (HasEpilogue<Device, Unactivated>) {
      forward(device, x, y, Unactivated());
    } else {
      gemm(device, x, weight_.value_matrix(), y);
      if (biased_ > 0) bias_forward(device, y.matrix.columns(0, biased_), bias_->value);
    }
  }

  /// y = A(x W + b), on a device that fuses the three steps.
  template <class A>
  void forward(Device& device, Matrix<const Scalar> x, Output<Scalar> y, A)
  requires HasEpilogue<Device, A>
  {
    // Beyond the first `biased` columns the bias is zero.
    gemm(device, x, weight_.value_matrix(), y,
         Epilogue<Scalar, A>{bias_ == nullptr ? nullptr : bias_->value});
  }

  /// Columns of x W + b, from `first` on and as many as y has.
  void forward_columns(Device& device, Index first, Matrix<const Scalar> x, Matrix<Scalar> y) {
    gemm(device, x, weight_.value_matrix().columns(first, y.cols), y);
    if (const Index biased = biased_of(first, y.cols); biased > 0)
      bias_forward(device, y.columns(0, biased), bias_->value + first);
  }

  /// d_W += x^T d_y, d_b += the column sums of d_y, d_x = d_y W^T.
  void backward(Device& device, Matrix<const Scalar> x, Matrix<const Scalar> d_y, Output<Scalar> d_x) {
    gemm(device, transpose(x), d_y, accumulate(weight_.gradient_matrix()));
    if (biased_ > 0) bias_backward(device, d_y.columns(0, biased_), bias_->gradient);
    gemm(device, d_y, transpose(weight_.value_matrix()), d_x);
  }

  /// The same for the columns from `first` on, as many as d_y has.
  void backward_columns(Device& device, Index first, Matrix<const Scalar> x, Matrix<const Scalar> d_y,
                        Output<Scalar> d_x) {
    gemm(device, transpose(x), d_y, accumulate(weight_.gradient_matrix().columns(first, d_y.cols)));
    if (const Index biased = biased_of(first, d_y.cols); biased > 0)
      bias_backward(device, d_y.columns(0, biased), bias_->gradient + first);
    gemm(device, d_y, transpose(weight_.value_matrix().columns(first, d_y.cols)), d_x);
  }

 private:
  /// How many of `count` columns from `first` on have a bias.
  Index biased_of(Index first, Index count) const { return std::clamp(biased_ - first, Index{0}, count); }

  Parameter<Device>& weight_;
  Parameter<Device>* bias_ = nullptr;
  Index biased_;
};

}  // namespace lnfree
