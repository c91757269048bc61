#pragma once

#include <algorithm>

#include <lnfree/backend/eigen/device.hpp>
#include <lnfree/backend/eigen/views.hpp>
#include <lnfree/core/adamw_step.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::eigen {

/// So many numbers are worked on at a time, expression after expression, while they are in a cache.
inline constexpr Index piece_size = 2048;

/// Long arrays as rows of piece_size numbers, the last one shorter: the numbers of row i.
template <class T>
Row<T> piece(T* data, Index count, Index i) {
  return numbers(data + i * piece_size, std::min(piece_size, count - i * piece_size));
}

inline Index pieces(Index count) {
  return (count + piece_size - 1) / piece_size;
}

template <class S>
double sum_of_squares(EigenCpu<S>&, const S* values, Index count) {
  return sum_over_rows(pieces(count), piece_size, [=](Index i) {
    return piece(values, count, i).template cast<double>().square().sum();
  });
}

template <class S>
void adamw(EigenCpu<S>&, Index count, S* master, S* value, S* gradient, S* m, S* v, const AdamWStep& step) {
  const auto beta1 = static_cast<S>(step.beta1), beta2 = static_cast<S>(step.beta2);
  const auto rest1 = static_cast<S>(1 - step.beta1), rest2 = static_cast<S>(1 - step.beta2);
  const auto decay = static_cast<S>(1 - step.learning_rate * step.weight_decay);
  const auto rate = static_cast<S>(step.learning_rate / step.correction1);
  const auto correction2 = static_cast<S>(step.correction2), epsilon = static_cast<S>(step.epsilon);
  const auto scale = static_cast<S>(step.gradient_scale);
  for_each_row(pieces(count), piece_size, [&](Index i) {
    const auto of_piece = [&](S* array) { return piece(array, count, i); };
    auto g = of_piece(gradient), of_m = of_piece(m), of_v = of_piece(v), w = of_piece(master);
    g *= scale;
    of_m = beta1 * of_m + rest1 * g;
    of_v = beta2 * of_v + rest2 * g.square();
    w = decay * w - rate * of_m / ((of_v / correction2).sqrt() + epsilon);
    of_piece(value) = w;
    g.setZero();
  });
}

}  // namespace lnfree::eigen
