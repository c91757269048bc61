#pragma once

#include <string_view>

#include <lnfree/core/config.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/objective/objective.hpp>

namespace lnfree {

/// Run-time choices of SparseHidden.
struct SparseHiddenOptions {
  double coefficient = 1e-5;  ///< What the penalty is multiplied with; 0: none.

  /// Calls f(name, value, help) for each of the options.
  template <class Options, class F>
  static void for_each(Options& options, const F& f) {
    f("hidden_penalty", options.coefficient, "Coefficient of the L1 penalty on hidden units; 0: none");
  }
};

// What nvcc makes kernels of must not be private to a class.
namespace detail::sparse_hidden {

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

}  // namespace detail::sparse_hidden

/// The cross-entropy and an L1 penalty on what the activations let through, so that more of a ReLU's hidden
/// units are 0 (Georgiadis, 2019): coefficient times the sum over layers of the mean over tokens of the sum
/// over hidden units of |h|.
template <class Device>
class SparseHidden {
 public:
  using Scalar = typename Device::Scalar;
  static constexpr std::string_view name = "sparse_hidden";

  /// Has no parameters of its own.
  SparseHidden(ParameterSet<Device>&, const DecoderConfig&) {}

  /// Its run-time choices.
  SparseHiddenOptions& options() { return options_; }
  /// Its run-time choices.
  const SparseHiddenOptions& options() const { return options_; }

  /// As objective/objective.hpp says.
  double on_hidden(Device& device, const TrainingPass& pass, int /*layer*/, Matrix<const Scalar> hidden,
                   Matrix<Scalar> d_hidden) {
    if (options_.coefficient == 0) return 0;
    const double per_token = options_.coefficient / static_cast<double>(hidden.rows);
    for_each_element(device, hidden.size(), detail::sparse_hidden::AddSign{per_token * pass.gradient_scale},
                     hidden.data, d_hidden.data);
    return per_token * sum_of(device, hidden.size(), detail::sparse_hidden::Magnitude{}, hidden.data);
  }

 private:
  SparseHiddenOptions options_;
};

}  // namespace lnfree
