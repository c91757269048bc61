#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <lnfree/backend/cpu/device.hpp>
#include <lnfree/backend/cpu/tile_product.hpp>
#include <lnfree/backend/cpu/transpose.hpp>
#include <lnfree/backend/primitives.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cpu {

/// Queries that are worked on together: the lanes of vectors, so that the softmax of each runs down its lane.
/// A tile of queries meets the keys up to its last query only: small tiles waste little above the diagonal.
inline constexpr Index query_tile = 32;
using QueryLanes = float[query_tile];

/// One thread's scratch memory for one head: two tiles (T, query_tile), a row for each key, and two
/// transposed tiles (head_dim, query_tile).
struct HeadWorkspace {
  static Index size(AttentionShape shape) { return 2 * query_tile * (Index{shape.length} + shape.head_dim); }
  HeadWorkspace(float* memory, AttentionShape shape)
      : weights(memory),
        d_weights(weights + query_tile * shape.length),
        q_transposed(d_weights + query_tile * shape.length),
        d_y_transposed(q_transposed + query_tile * shape.head_dim) {}

  float *weights, *d_weights, *q_transposed, *d_y_transposed;
};

inline Index attention_workspace(Cpu& device, AttentionShape shape) {
  return HeadWorkspace::size(shape) * device.planned_threads;
}

/// Calls body(b, h, workspace) for every head of every sequence.
template <class Body>
void for_each_head(const Cpu& device, AttentionShape shape, float* workspace, const Body& body) {
  parallel_for(
      Index{shape.batch} * shape.heads, 1,
      [&](Index begin, Index end) {
        const HeadWorkspace mine(workspace + omp_get_thread_num() * HeadWorkspace::size(shape), shape);
        for (Index bh = begin; bh < end; ++bh) body(bh / shape.heads, bh % shape.heads, mine);
      },
      1, device.planned_threads);
}

/// One head's columns in the matrices of a layer.
struct HeadView {
  AttentionShape shape;
  Index b, h;

  /// Of the `part`-th of the matrices that lie side by side: Q | K | V.
  template <class T>
  Matrix<T> operator()(Matrix<T> matrix, Index part = 0) const {
    return matrix.slice(b * shape.length, shape.length)
        .columns(part * shape.width() + h * shape.head_dim, shape.head_dim);
  }
};

/// rows (keys, query_tile) = `left` times the transpose of the queries' rows, which is left in `transposed`.
/// Lanes without a query are zero.
inline void product_with_queries(Matrix<const float> left, Matrix<const float> queries, float* transposed,
                                 float* rows) {
  if (queries.rows < query_tile) std::fill_n(transposed, query_tile * queries.cols, 0.0f);
  transpose_into(queries, transposed, query_tile);
  tile_product({left.data, left.stride, 1}, transposed, query_tile, left.cols, rows, query_tile, left.rows,
               query_tile, false);
}

/// Calls body(row, diagonal) for the rows of a tile's keys, whose queries begin at `first`; lanes below
/// `diagonal` do not see the key.
template <class Body>
void for_each_key(float* rows, Index keys, Index first, const Body& body) {
  for (Index j = 0; j < std::min(first, keys); ++j) body(rows + j * query_tile, 0);
  for (Index j = first; j < keys; ++j) body(rows + j * query_tile, static_cast<int>(j - first));
}

inline bool all_finite(const float* values, Index count) {
  float zero = 0;
#pragma omp simd reduction(+ : zero)
  for (Index j = 0; j < count; ++j) zero += 0.0f * values[j];
  return zero == 0.0f;
}

template <class Entropies>
void attention_forward(Cpu& device, AttentionShape shape, Matrix<const float> qkv, Matrix<float> y,
                       float* log_sum, float* workspace, [[maybe_unused]] Entropies entropies) {
  constexpr bool observed = !std::is_same_v<Entropies, Unobserved>;
  const Index T = shape.length, D = shape.head_dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(D));
  for_each_head(device, shape, workspace, [&](Index b, Index h, const HeadWorkspace& my) {
    const HeadView head{shape, b, h};
    const Matrix<const float> q = head(qkv, 0), k = head(qkv, 1), v = head(qkv, 2);
    const Matrix<float> out = head(y);
    float* const head_log_sum = log_sum + (b * shape.heads + h) * T;
    [[maybe_unused]] double entropy_sum = 0;
    [[maybe_unused]] std::int32_t finite_rows = 0;
    for (Index first = 0; first < T; first += query_tile) {
      const Index count = std::min(query_tile, T - first), keys = first + count;
      product_with_queries(k.top(keys), q.slice(first, count), my.q_transposed, my.weights);

      QueryLanes max, sum = {}, weighted = {};
      std::fill_n(max, query_tile, -std::numeric_limits<float>::infinity());
      for_each_key(my.weights, keys, first, [&](const float* row, int diagonal) {
#pragma omp simd
        for (int i = 0; i < query_tile; ++i) max[i] = i >= diagonal && row[i] > max[i] ? row[i] : max[i];
      });
      for_each_key(my.weights, keys, first, [&](float* row, int diagonal) {
#pragma omp simd
        for (int i = 0; i < query_tile; ++i) {
          const float s = scale * (row[i] - max[i]);
          const float e = i >= diagonal ? math::exp(s) : 0.0f;
          row[i] = e;
          sum[i] += e;
          if constexpr (observed) weighted[i] += i >= diagonal ? e * s : 0.0f;
        }
      });

      const Strided weights{my.weights, 1, query_tile};
      tile_product(weights, v.data, v.stride, keys, out.row(first), out.stride, count, D, false);
      for (Index i = 0; i < count; ++i) {
        float* const y_row = out.row(first + i);
        // The tile gives keys behind the diagonal the weight 0, which a value that is not finite turns into
        // NaN: such rows once more, over the keys they see alone.
        if (!all_finite(y_row, D)) {
          tile_product({my.weights + i, 1, query_tile}, v.data, v.stride, first + i + 1, y_row, out.stride, 1,
                       D, false);
        }
        const float log_of_sum = std::log(sum[i]), per_sum = 1.0f / sum[i];
        head_log_sum[first + i] = scale * max[i] + log_of_sum;
#pragma omp simd
        for (Index c = 0; c < D; ++c) y_row[c] *= per_sum;
        if constexpr (observed) {
          const float entropy = log_of_sum - weighted[i] * per_sum;
          if (std::isfinite(entropy)) {
            entropy_sum += static_cast<double>(entropy);
            ++finite_rows;
          }
        }
      }
    }
    if constexpr (observed) {
      entropies.sums[b * shape.heads + h] = static_cast<float>(entropy_sum);
      entropies.finite_rows[b * shape.heads + h] = finite_rows;
    }
  });
}

inline void attention_backward(Cpu& device, AttentionShape shape, Matrix<const float> qkv,
                               Matrix<const float> y, const float* log_sum, Matrix<const float> d_y,
                               Matrix<float> d_qkv, float* workspace) {
  const Index T = shape.length, D = shape.head_dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(D));
  for_each_head(device, shape, workspace, [&](Index b, Index h, const HeadWorkspace& my) {
    const HeadView head{shape, b, h};
    const Matrix<const float> q = head(qkv, 0), k = head(qkv, 1), v = head(qkv, 2);
    const Matrix<float> d_q = head(d_qkv, 0), d_k = head(d_qkv, 1), d_v = head(d_qkv, 2);
    const Matrix<const float> out = head(y), d_out = head(d_y);
    const float* const head_log_sum = log_sum + (b * shape.heads + h) * T;
    // From the last tile to the first: the last one meets every key and so writes all of d_k and d_v, the
    // others add.
    for (Index first = (T - 1) / query_tile * query_tile; first >= 0; first -= query_tile) {
      const Index count = std::min(query_tile, T - first), keys = first + count;
      const bool adds = keys < T;
      product_with_queries(k.top(keys), q.slice(first, count), my.q_transposed, my.weights);
      product_with_queries(v.top(keys), d_out.slice(first, count), my.d_y_transposed, my.d_weights);

      QueryLanes total = {}, row_sum = {};  // row_sum = sum_j a_ij d_a_ij = d_y_i y_i
      for (Index i = 0; i < count; ++i) {
        const float *o = out.row(first + i), *d_o = d_out.row(first + i);
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (Index c = 0; c < D; ++c) dot += o[c] * d_o[c];
        row_sum[i] = dot;
        total[i] = head_log_sum[first + i];
      }
      for_each_key(my.weights, keys, first, [&](float* row, int diagonal) {
        float* const d_row = my.d_weights + (row - my.weights);
#pragma omp simd
        for (int i = 0; i < query_tile; ++i) {
          const float weight = math::exp(scale * row[i] - total[i]);
          const float d_score = scale * weight * (d_row[i] - row_sum[i]);
          row[i] = i >= diagonal ? weight : 0.0f;
          d_row[i] = i >= diagonal ? d_score : 0.0f;
        }
      });

      const Strided weights{my.weights, query_tile, 1}, d_scores{my.d_weights, query_tile, 1};
      const Strided d_scores_transposed{my.d_weights, 1, query_tile};
      tile_product(d_scores_transposed, k.data, k.stride, keys, d_q.row(first), d_q.stride, count, D, false);
      tile_product(d_scores, q.row(first), q.stride, count, d_k.data, d_k.stride, keys, D, adds);
      tile_product(weights, d_out.row(first), d_out.stride, count, d_v.data, d_v.stride, keys, D, adds);
    }
  });
}

}  // namespace lnfree::cpu
