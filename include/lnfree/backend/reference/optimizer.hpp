#pragma once

#include <cmath>

#include <lnfree/backend/reference/device.hpp>
#include <lnfree/core/adamw_step.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::reference {

template <class S>
double sum_of_squares(Reference<S>&, const S* values, Index count) {
  double sum = 0;
  for (Index i = 0; i < count; ++i) sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  return sum;
}

template <class S>
void adamw(Reference<S>&, Index count, S* master, S* value, S* gradient, S* m, S* v, const AdamWStep& step) {
  for (Index i = 0; i < count; ++i) {
    const S g = gradient[i] * static_cast<S>(step.gradient_scale);
    m[i] = static_cast<S>(step.beta1) * m[i] + static_cast<S>(1 - step.beta1) * g;
    v[i] = static_cast<S>(step.beta2) * v[i] + static_cast<S>(1 - step.beta2) * g * g;
    master[i] -= static_cast<S>(step.learning_rate * step.weight_decay) * master[i];
    master[i] -= static_cast<S>(step.learning_rate / step.correction1) * m[i] /
                 (std::sqrt(v[i] / static_cast<S>(step.correction2)) + static_cast<S>(step.epsilon));
    value[i] = master[i];
    gradient[i] = 0;
  }
}

}  // namespace lnfree::reference
