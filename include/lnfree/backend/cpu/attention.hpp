#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include <lnfree/backend/cpu/cross_entropy.hpp>
#include <lnfree/backend/cpu/device.hpp>
#include <lnfree/backend/cpu/tile_product.hpp>
#include <lnfree/backend/primitives.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cpu {

/// Queries that are worked on together. A tile of queries meets the keys up to its last query only, so that a
/// small tile wastes little above the diagonal.
inline constexpr Index query_tile = 32;

/// One thread's scratch memory for one head: two tiles of (query_tile, T) and two transposed (head_dim, T)
/// matrices.
struct HeadWorkspace {
  static Index size(AttentionShape shape) {
    return 2 * query_tile * padded(shape.length) + 2 * shape.head_dim * padded(shape.length);
  }
  HeadWorkspace(float* memory, AttentionShape shape)
      : stride(padded(shape.length)),
        weights(memory),
        d_weights(weights + query_tile * stride),
        k_transposed(d_weights + query_tile * stride),
        v_transposed(k_transposed + shape.head_dim * stride) {}

  Index stride;
  float *weights, *d_weights, *k_transposed, *v_transposed;

  /// `count` numbers in whole vectors.
  static Index padded(Index count) { return (count + 15) / 16 * 16; }
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

/// to (cols, rows) = from^T.
inline void transpose_into(Matrix<const float> from, float* to, Index to_stride) {
  for (Index i = 0; i < from.rows; ++i) {
    for (Index j = 0; j < from.cols; ++j) to[j * to_stride + i] = from.row(i)[j];
  }
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
  const Index T = shape.length, D = shape.head_dim, C = shape.width();
  const float scale = 1.0f / std::sqrt(static_cast<float>(D));
  for_each_head(device, shape, workspace, [&](Index b, Index h, const HeadWorkspace& my) {
    const auto part = [&](auto matrix, Index offset) {
      return matrix.slice(b * T, T).columns(offset + h * D, D);
    };
    const Matrix<const float> q = part(qkv, 0), k = part(qkv, C), v = part(qkv, 2 * C);
    const Matrix<float> out = part(y, 0);
    float* const head_log_sum = log_sum + (b * shape.heads + h) * T;
    transpose_into(k, my.k_transposed, my.stride);
    [[maybe_unused]] double entropy_sum = 0;
    [[maybe_unused]] std::int32_t finite_rows = 0;
    for (Index first = 0; first < T; first += query_tile) {
      const Index count = std::min(query_tile, T - first), keys = first + count;
      tile_product({q.row(first), q.stride, 1}, my.k_transposed, my.stride, D, my.weights, my.stride, count,
                   keys, false);
      for (Index i = 0; i < count; ++i) {
        float* row = my.weights + i * my.stride;
        const Index seen = first + i + 1, vectors_end = my.padded(seen);
        const float max = max_of(row, seen);
        // Scores that vanish fill the last vector, so that the loops have no remainder.
        std::fill(row + seen, row + vectors_end, max - 100.0f / scale);
        float sum = 0, weighted = 0;
#pragma omp simd reduction(+ : sum, weighted)
        for (Index j = 0; j < vectors_end; ++j) {
          const float s = scale * (row[j] - max);
          const float e = math::exp(s);
          row[j] = e;
          sum += e;
          if constexpr (observed) weighted += e * s;
        }
        const float log_of_sum = std::log(sum);
        head_log_sum[first + i] = scale * max + log_of_sum;
        const float per_sum = 1.0f / sum;
#pragma omp simd
        for (Index j = 0; j < vectors_end; ++j) row[j] *= per_sum;
        std::fill(row + seen, row + keys, 0.0f);
        if constexpr (observed) {
          const float entropy = log_of_sum - weighted * per_sum;
          if (std::isfinite(entropy)) {
            entropy_sum += static_cast<double>(entropy);
            ++finite_rows;
          }
        }
      }
      tile_product({my.weights, my.stride, 1}, v.data, v.stride, keys, out.row(first), out.stride, count, D,
                   false);
      // The tile gives keys behind the diagonal the weight 0, which a value that is not finite turns into
      // NaN: such rows once more, over the keys they see alone.
      for (Index i = 0; i < count; ++i) {
        if (all_finite(out.row(first + i), D)) continue;
        tile_product({my.weights + i * my.stride, my.stride, 1}, v.data, v.stride, first + i + 1,
                     out.row(first + i), out.stride, 1, D, false);
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
  const Index T = shape.length, D = shape.head_dim, C = shape.width();
  const float scale = 1.0f / std::sqrt(static_cast<float>(D));
  for_each_head(device, shape, workspace, [&](Index b, Index h, const HeadWorkspace& my) {
    const auto part = [&](auto matrix, Index offset) {
      return matrix.slice(b * T, T).columns(offset + h * D, D);
    };
    const Matrix<const float> q = part(qkv, 0), k = part(qkv, C), v = part(qkv, 2 * C);
    const Matrix<float> d_q = part(d_qkv, 0), d_k = part(d_qkv, C), d_v = part(d_qkv, 2 * C);
    const Matrix<const float> out = part(y, 0), d_out = part(d_y, 0);
    const float* const head_log_sum = log_sum + (b * shape.heads + h) * T;
    transpose_into(k, my.k_transposed, my.stride);
    transpose_into(v, my.v_transposed, my.stride);
    // From the last tile to the first: the last one meets every key and so writes all of d_k and d_v, the
    // others add.
    for (Index first = (T - 1) / query_tile * query_tile; first >= 0; first -= query_tile) {
      const Index count = std::min(query_tile, T - first), keys = first + count;
      const bool adds = keys < T;
      const Strided a_transposed{my.weights, 1, my.stride};
      const Strided d_s{my.d_weights, my.stride, 1}, d_s_transposed{my.d_weights, 1, my.stride};
      tile_product({q.row(first), q.stride, 1}, my.k_transposed, my.stride, D, my.weights, my.stride, count,
                   keys, false);
      tile_product({d_out.row(first), d_out.stride, 1}, my.v_transposed, my.stride, D, my.d_weights,
                   my.stride, count, keys, false);
      for (Index i = 0; i < count; ++i) {
        float *row = my.weights + i * my.stride, *d_row = my.d_weights + i * my.stride;
        const Index seen = first + i + 1, vectors_end = my.padded(seen);
        const float *o = out.row(first + i), *d_o = d_out.row(first + i);
        const float total = head_log_sum[first + i];
        float row_sum = 0;  // sum_j a_ij d_a_ij = d_y_i y_i
#pragma omp simd reduction(+ : row_sum)
        for (Index c = 0; c < D; ++c) row_sum += o[c] * d_o[c];
#pragma omp simd
        for (Index j = 0; j < vectors_end; ++j) {
          const float weight = math::exp(scale * row[j] - total);
          row[j] = weight;
          d_row[j] = scale * weight * (d_row[j] - row_sum);
        }
        std::fill(row + seen, row + keys, 0.0f);
        std::fill(d_row + seen, d_row + keys, 0.0f);
      }
      tile_product(d_s, k.data, k.stride, keys, d_q.row(first), d_q.stride, count, D, false);
      tile_product(d_s_transposed, q.row(first), q.stride, count, d_k.data, d_k.stride, keys, D, adds);
      tile_product(a_transposed, d_out.row(first), d_out.stride, count, d_v.data, d_v.stride, keys, D, adds);
    }
  });
}

}  // namespace lnfree::cpu
