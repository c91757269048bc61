#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include <lnfree/backend/primitives.hpp>
#include <lnfree/backend/reference/device.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::reference {

template <class S>
Index attention_workspace(Reference<S>&, AttentionShape shape) {
  return shape.length;  // one row of scores
}

/// s_ij for j <= i of one head.
template <class S>
void attention_scores(AttentionShape shape, Matrix<const S> q, Matrix<const S> k, Index i, S* scores) {
  const S scale = S(1) / std::sqrt(static_cast<S>(shape.head_dim));
  for (Index j = 0; j <= i; ++j) {
    S dot = 0;
    for (Index c = 0; c < shape.head_dim; ++c) dot += q.row(i)[c] * k.row(j)[c];
    scores[j] = dot * scale;
  }
}

template <class S, class Entropies>
void attention_forward(Reference<S>&, AttentionShape shape, std::type_identity_t<Matrix<const S>> qkv,
                       Matrix<S> y, S* log_sum, S* scores, [[maybe_unused]] Entropies entropies) {
  const Index C = shape.width();
  for (Index b = 0; b < shape.batch; ++b) {
    for (Index h = 0; h < shape.heads; ++h) {
      const Matrix<const S> sequence = qkv.slice(b * shape.length, shape.length);
      const Matrix<const S> q = sequence.columns(h * shape.head_dim, shape.head_dim);
      const Matrix<const S> k = sequence.columns(C + h * shape.head_dim, shape.head_dim);
      const Matrix<const S> v = sequence.columns(2 * C + h * shape.head_dim, shape.head_dim);
      const Matrix<S> out =
          y.slice(b * shape.length, shape.length).columns(h * shape.head_dim, shape.head_dim);
      const Index bh = b * shape.heads + h;
      for (Index i = 0; i < shape.length; ++i) {
        attention_scores(shape, q, k, i, scores);
        S max = -std::numeric_limits<S>::infinity();
        for (Index j = 0; j <= i; ++j) max = scores[j] > max ? scores[j] : max;
        S sum = 0;
        for (Index j = 0; j <= i; ++j) sum += std::exp(scores[j] - max);
        log_sum[bh * shape.length + i] = max + std::log(sum);
        S entropy = 0;
        for (Index c = 0; c < shape.head_dim; ++c) out.row(i)[c] = 0;
        for (Index j = 0; j <= i; ++j) {
          const S a = std::exp(scores[j] - max) / sum;
          entropy -= a * (scores[j] - max - std::log(sum));
          for (Index c = 0; c < shape.head_dim; ++c) out.row(i)[c] += a * v.row(j)[c];
        }
        if constexpr (!std::is_same_v<Entropies, Unobserved>) entropies.rows[bh * shape.length + i] = entropy;
        if constexpr (HasMaxScores<Entropies>) entropies.max_scores[bh * shape.length + i] = max;
      }
    }
  }
}

template <class S, class Gradients>
void attention_backward(Reference<S>&, AttentionShape shape, std::type_identity_t<Matrix<const S>> qkv,
                        std::type_identity_t<Matrix<const S>> y, const S* log_sum,
                        std::type_identity_t<Matrix<const S>> d_y, Matrix<S> d_qkv, S* scores,
                        [[maybe_unused]] Gradients entropies) {
  const Index C = shape.width();
  const S scale = S(1) / std::sqrt(static_cast<S>(shape.head_dim));
  for (Index i = 0; i < d_qkv.rows; ++i) {
    for (Index j = 0; j < d_qkv.cols; ++j) d_qkv.row(i)[j] = 0;
  }
  for (Index b = 0; b < shape.batch; ++b) {
    for (Index h = 0; h < shape.heads; ++h) {
      const Index first = b * shape.length, at = h * shape.head_dim;
      const auto part = [&](auto matrix, Index offset) {
        return matrix.slice(first, shape.length).columns(offset + at, shape.head_dim);
      };
      const Matrix<const S> q = part(qkv, 0), k = part(qkv, C), v = part(qkv, 2 * C);
      const Matrix<S> d_q = part(d_qkv, 0), d_k = part(d_qkv, C), d_v = part(d_qkv, 2 * C);
      const Matrix<const S> out = part(y, 0), d_out = part(d_y, 0);
      for (Index i = 0; i < shape.length; ++i) {
        attention_scores(shape, q, k, i, scores);
        // With a_ij the weights: d_s_ij = a_ij (d_a_ij - sum_j a_ij d_a_ij), and that sum is d_y_i y_i.
        S row_sum = 0;
        for (Index c = 0; c < shape.head_dim; ++c) row_sum += d_out.row(i)[c] * out.row(i)[c];
        for (Index j = 0; j <= i; ++j) {
          const Index row = (b * shape.heads + h) * shape.length + i;
          const S a = std::exp(scores[j] - log_sum[row]);
          S d_a = 0;
          for (Index c = 0; c < shape.head_dim; ++c) d_a += d_out.row(i)[c] * v.row(j)[c];
          S d_s = a * (d_a - row_sum) * scale;
          if constexpr (!std::is_same_v<Gradients, Unobserved>) {
            if (a > 0)
              d_s -= entropies.d_rows[row] * a * (scores[j] - log_sum[row] + entropies.rows[row]) * scale;
          }
          for (Index c = 0; c < shape.head_dim; ++c) {
            d_q.row(i)[c] += d_s * k.row(j)[c];
            d_k.row(j)[c] += d_s * q.row(i)[c];
            d_v.row(j)[c] += a * d_out.row(i)[c];
          }
        }
      }
    }
  }
}

}  // namespace lnfree::reference
