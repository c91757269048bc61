#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/eigen/device.hpp>
#include <lnfree/device/eigen/views.hpp>

namespace lnfree::eigen {

template <class S>
void cross_entropy_forward(EigenCpu<S>&, std::type_identity_t<Matrix<const S>> logits,
                           const std::int32_t* targets, S* losses) {
  for_each_row(logits.rows, logits.cols, [&](Index i) {
    losses[i] = 0;
    if (targets[i] < 0) return;
    const auto of_row = row(logits, i);
    const S max = of_row.maxCoeff();
    losses[i] = std::log((of_row - max).exp().sum()) - (of_row[targets[i]] - max);
  });
}

template <class S>
void cross_entropy_forward_backward(EigenCpu<S>&, Matrix<S> logits, const std::int32_t* targets, S* losses,
                                    double gradient_scale) {
  const S scale = static_cast<S>(gradient_scale);
  for_each_row(logits.rows, logits.cols, [&](Index i) {
    auto of_row = row(logits, i);
    losses[i] = 0;
    if (targets[i] < 0) {
      of_row.setZero();
      return;
    }
    const S max = of_row.maxCoeff(), target = of_row[targets[i]];
    of_row = (of_row - max).exp();
    const S sum = of_row.sum();
    losses[i] = std::log(sum) - (target - max);
    of_row *= scale / sum;
    of_row[targets[i]] -= scale;
  });
}

}  // namespace lnfree::eigen
