#pragma once

#include <string_view>

#include <lnfree/backend/primitives.hpp>
#include <lnfree/core/config.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/objective/objective.hpp>

namespace lnfree {

/// The cross-entropy and an L1 penalty on what the activations let through, so that more of a ReLU's hidden
/// units are 0 (Georgiadis, 2019): coefficient times the sum over layers of the mean over tokens of the sum
/// over hidden units of |h|.
template <class Device>
class SparseHidden {
 public:
  using Scalar = typename Device::Scalar;
  static constexpr std::string_view name = "sparse_hidden";

  SparseHidden(ParameterSet<Device>&, const DecoderConfig&) {}

  double coefficient() const { return coefficient_; }
  void set_coefficient(double coefficient) { coefficient_ = coefficient; }

  double on_hidden(Device& device, const TrainingPass& pass, int /*layer*/, Matrix<const Scalar> hidden,
                   Matrix<Scalar> d_hidden) {
    if (coefficient_ == 0) return 0;
    const double per_token = coefficient_ / static_cast<double>(hidden.rows);
    for_each_element(device, hidden.size(), AddSign{per_token * pass.gradient_scale}, hidden.data,
                     d_hidden.data);
    return per_token * sum_of(device, hidden.size(), Magnitude{}, hidden.data);
  }

 private:
  struct AddSign {
    double amount;
    template <class T>
    LNFREE_HOST_DEVICE void operator()(T h, T& d) const {
      d += h > T(0) ? static_cast<T>(amount) : h < T(0) ? static_cast<T>(-amount) : T(0);
    }
  };
  struct Magnitude {
    template <class T>
    LNFREE_HOST_DEVICE double operator()(T h) const {
      return static_cast<double>(h < T(0) ? -h : h);
    }
  };

  double coefficient_ = 1e-5;
};

}  // namespace lnfree
