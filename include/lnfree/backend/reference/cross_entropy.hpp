#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include <lnfree/backend/reference/device.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::reference {

/// ln sum_j exp(logits_j).
template <class S>
S log_sum_exp(const S* logits, Index count) {
  S max = logits[0];
  for (Index j = 1; j < count; ++j) max = logits[j] > max ? logits[j] : max;
  S sum = 0;
  for (Index j = 0; j < count; ++j) sum += std::exp(logits[j] - max);
  return max + std::log(sum);
}

template <class S>
void cross_entropy_forward(Reference<S>&, std::type_identity_t<Matrix<const S>> logits,
                           const std::int32_t* targets, S* losses) {
  for (Index i = 0; i < logits.rows; ++i) {
    losses[i] = targets[i] < 0 ? S(0) : log_sum_exp(logits.row(i), logits.cols) - logits.row(i)[targets[i]];
  }
}

template <class S>
void cross_entropy_forward_backward(Reference<S>& device, Matrix<S> logits, const std::int32_t* targets,
                                    S* losses, double gradient_scale) {
  cross_entropy_forward(device, logits, targets, losses);
  for (Index i = 0; i < logits.rows; ++i) {
    const S total = log_sum_exp<S>(logits.row(i), logits.cols);
    for (Index j = 0; j < logits.cols; ++j) {
      const S difference = std::exp(logits.row(i)[j] - total) - (j == targets[i] ? S(1) : S(0));
      logits.row(i)[j] = targets[i] < 0 ? S(0) : static_cast<S>(gradient_scale) * difference;
    }
  }
}

}  // namespace lnfree::reference
