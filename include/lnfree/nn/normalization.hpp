#pragma once

#include <string>
#include <type_traits>

#include <lnfree/backend/primitives.hpp>
#include <lnfree/core/concepts.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/norm/identity.hpp>

namespace lnfree {

/// The norm in front of a sublayer, whose policy N says what it computes. With Identity the sublayer reads
/// the residual stream itself and adds its gradient straight to the stream's.
template <class N, class Device>
class Normalization {
 public:
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;
  static constexpr bool is_identity = std::is_same_v<N, Identity>;
  static_assert(!Norm<N> || is_identity || HasNorm<Device, N> || HasPointwiseNorm<Device, N>,
                "lnfree: the device has no norm_forward and norm_backward for this norm "
                "(backend/primitives.hpp)");

  Normalization(ParameterSet<Device>& parameters, const std::string& name, Index width) {
    if constexpr (!is_identity) {
      if constexpr (PointwiseNorm<N>) {
        alpha_ = &parameters.add(name + ".alpha", {1}, ParameterKind::norm, N::initial_alpha);
        if constexpr (N::has_shift) shift_ = &parameters.add(name + ".shift", {1}, ParameterKind::norm);
      }
      if constexpr (N::has_gain) gain_ = &parameters.add(name + ".weight", {width}, ParameterKind::norm, 1.0);
      if constexpr (N::has_bias) bias_ = &parameters.add(name + ".bias", {width}, ParameterKind::norm);
    }
  }

  /// Reserves the output (rows, width) and, if the norm has any, the statistics of each row.
  void plan(Arena& arena, Index rows, Index width) {
    if constexpr (!is_identity) {
      y_ = arena.matrix<Scalar>(rows, width);
      if constexpr (RowNorm<N>) statistics_ = arena.take<RowStatistics<Accumulator>>(rows);
    }
  }

  /// The normalized x, or x itself.
  Matrix<const Scalar> forward(Device& device, Matrix<const Scalar> x) {
    if constexpr (is_identity) {
      return x;
    } else {
      if constexpr (RowNorm<N>) {
        norm_forward(device, N{}, x, value(gain_), value(bias_), y_.top(x.rows), statistics_);
      } else {
        norm_forward(device, N{}, x, values(), y_.top(x.rows));
      }
      return y_.top(x.rows);
    }
  }

  /// What forward returned.
  Matrix<const Scalar> output(Matrix<const Scalar> x) const {
    if constexpr (is_identity) {
      return x;
    } else {
      return y_.top(x.rows);
    }
  }

  /// Where the sublayer shall leave the gradient of what forward returned: in d_x itself, or in `scratch`
  /// first.
  Output<Scalar> gradient_of_output(Output<Scalar> d_x, Matrix<Scalar> scratch) const {
    if constexpr (is_identity) {
      return d_x;
    } else {
      return scratch.top(d_x.matrix.rows);
    }
  }

  /// From the gradient left there to d_x.
  void backward(Device& device, Matrix<const Scalar> x, Output<Scalar> d_y, Output<Scalar> d_x) {
    if constexpr (RowNorm<N>) {
      norm_backward(device, N{}, x, value(gain_), statistics_, d_y.matrix, d_x, gradient(gain_),
                    gradient(bias_));
    } else if constexpr (PointwiseNorm<N>) {
      norm_backward(
          device, N{}, x, values(), d_y.matrix, d_x,
          NormParameters<Accumulator>{gradient(alpha_), gradient(shift_), gradient(gain_), gradient(bias_)});
    }
  }

 private:
  static const Scalar* value(const Parameter<Device>* p) { return p == nullptr ? nullptr : p->value; }
  static Accumulator* gradient(const Parameter<Device>* p) { return p == nullptr ? nullptr : p->gradient; }

  NormParameters<const Scalar> values() const {
    return {value(alpha_), value(shift_), value(gain_), value(bias_)};
  }

  Parameter<Device>* alpha_ = nullptr;
  Parameter<Device>* shift_ = nullptr;
  Parameter<Device>* gain_ = nullptr;
  Parameter<Device>* bias_ = nullptr;
  Matrix<Scalar> y_;
  RowStatistics<Accumulator>* statistics_ = nullptr;
};

}  // namespace lnfree
