#pragma once

#include <string>
#include <type_traits>

#include <lnfree/backend/primitives.hpp>
#include <lnfree/core/concepts.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/norm/call.hpp>
#include <lnfree/norm/identity.hpp>

namespace lnfree {

/// A norm in a model, whose policy N says what it computes. With Identity there is none: what reads its output
/// reads x itself, and adds its gradient straight to that of x.
template <class N, class Device>
class Normalization {
 public:
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;
  static constexpr bool is_identity = std::is_same_v<N, Identity>;
  static_assert(!Norm<N> || is_identity || HasNorm<Device, N>,
                "lnfree: the device has no norm_forward and norm_backward for this norm "
                "(backend/primitives.hpp)");

  Normalization(ParameterSet<Device>& parameters, const std::string& name, Index width, NormSite site) {
    if constexpr (!is_identity) {
      for_norm_parameters<N>([&](auto k) {
        constexpr NormParameter p = norm_parameter<N, k()>;
        parameters_[k()] = &parameters.add(name + "." + std::string(p.name), {p.is_per_channel ? width : 1},
                                           ParameterKind::norm, p.initial.at(site));
      });
    }
  }

  /// Reserves the output (rows, width) and, if the norm looks at rows, what it keeps of each.
  void plan(Arena& arena, Index rows, Index width) {
    if constexpr (!is_identity) {
      y_ = arena.matrix<Scalar>(rows, width);
      if constexpr (RowNorm<N>) rows_ = arena.take<NormRow<Accumulator>>(rows);
    }
  }

  /// The normalized x, or x itself.
  Matrix<const Scalar> forward(Device& device, Matrix<const Scalar> x) {
    if constexpr (is_identity) {
      return x;
    } else {
      norm_forward(device, N{}, x, values(), y_.top(x.rows), rows_);
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
    if constexpr (!is_identity)
      norm_backward(device, N{}, x, values(), rows_, d_y.matrix, d_x, gradients());
  }

 private:
  NormPointers<const Scalar, N> values() const {
    NormPointers<const Scalar, N> pointers;
    for_norm_parameters<N>([&](auto k) { pointers.of[k()] = parameters_[k()]->value; });
    return pointers;
  }
  NormPointers<Accumulator, N> gradients() const {
    NormPointers<Accumulator, N> pointers;
    for_norm_parameters<N>([&](auto k) { pointers.of[k()] = parameters_[k()]->gradient; });
    return pointers;
  }

  Parameter<Device>* parameters_[norm_parameter_count<N> > 0 ? norm_parameter_count<N> : 1] = {};
  Matrix<Scalar> y_;
  NormRow<Accumulator>* rows_ = nullptr;
};

}  // namespace lnfree
