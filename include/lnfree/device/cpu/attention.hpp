#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <type_traits>

#include <lnfree/core/math.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>
#include <lnfree/device/cpu/tile_product.hpp>
#include <lnfree/device/cpu/transpose.hpp>
#include <lnfree/device/primitives.hpp>

namespace lnfree::cpu {

/// Queries processed together, one in each vector lane, so that the softmax of a query runs down its lane. A
/// tile of queries covers the keys up to its last query only, so small tiles waste little above the diagonal.
inline constexpr Index query_tile = 32;
inline constexpr Index few_queries = 4;  ///< Up to this many queries are processed one by one.
inline constexpr Index keys_ahead = 8;   ///< How many keys ahead of its product a key is fetched.
using QueryLanes = float[query_tile];

/// One thread's scratch memory for one head, in float, with contiguous rows.
struct HeadWorkspace {
  static Index size(AttentionShape shape) {
    return (2 * query_tile + 4 * Index{shape.head_dim}) * shape.length + 5 * query_tile * shape.head_dim;
  }
  HeadWorkspace(float* memory, AttentionShape shape) {
    const auto take = [&memory](Index rows, Index cols) {
      const Matrix<float> piece(memory, rows, cols);
      memory += piece.size();
      return piece;
    };
    const Index T = shape.length, D = shape.head_dim;
    for (Matrix<float>* m : {&weights, &d_weights}) *m = take(T, query_tile);
    for (Matrix<float>* m : {&k, &v, &d_k, &d_v}) *m = take(T, D);
    for (Matrix<float>* m : {&q, &d_y, &result}) *m = take(query_tile, D);
    for (Matrix<float>* m : {&q_transposed, &d_y_transposed}) *m = take(D, query_tile);
  }

  Matrix<float> weights, d_weights;            ///< (T, query_tile): a row for each key.
  Matrix<float> k, v, d_k, d_v;                ///< (T, head_dim)
  Matrix<float> q, d_y, result;                ///< (query_tile, head_dim)
  Matrix<float> q_transposed, d_y_transposed;  ///< (head_dim, query_tile)
};

template <CpuDevice D>
Index attention_workspace(D& device, AttentionShape shape) {
  return HeadWorkspace::size(shape) * device.planned_threads;
}

/// Calls body(b, h, workspace) for every head of every sequence.
template <class Body>
void for_each_head(const Cores& device, AttentionShape shape, float* workspace, const Body& body) {
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

  /// From matrix `part` of Q | K | V, which are side by side.
  template <class T>
  Matrix<T> operator()(Matrix<T> matrix, Index part = 0) const {
    return matrix.slice(b * shape.length, shape.length)
        .columns(part * shape.width() + h * shape.head_dim, shape.head_dim);
  }
};

/// Copies a matrix to or from another precision, sixteen columns at a time, because rows are short.
template <class From, class To>
void copy_rows(Matrix<From> from, Matrix<To> to) {
  constexpr Index together = 16;
  const Index whole = from.cols / together * together;
  for (Index first = 0; first < whole; first += together) {
    for (Index i = 0; i < from.rows; ++i) {
      const From* const in = from.row(i) + first;
      To* const out = to.row(i) + first;
#pragma omp simd
      for (Index j = 0; j < together; ++j) out[j] = static_cast<float>(in[j]);
    }
  }
  for (Index i = 0; i < from.rows; ++i) {
    for (Index j = whole; j < from.cols; ++j) to.row(i)[j] = static_cast<float>(from.row(i)[j]);
  }
}

/// Copies `from` into the first rows of a matrix of the workspace.
template <class S>
Matrix<const float> fill(Matrix<float> matrix, Matrix<const S> from) {
  copy_rows(from, matrix);
  return matrix.top(from.rows);
}

/// products (keys, query_tile) = left queries^T, leaving queries^T in `transposed`. Lanes without a query are
/// zero.
inline void product_with_queries(Matrix<const float> left, Matrix<const float> queries,
                                 Matrix<float> transposed, Matrix<float> products) {
  if (queries.rows < query_tile) std::fill_n(transposed.data, transposed.size(), 0.0f);
  transpose_into(queries, transposed.data, transposed.stride);
  tile_product(rows_of(left), transposed, products.top(left.rows));
}

/// Calls body(row, diagonal) for the rows of a tile's keys, whose queries begin at `first`; lanes below
/// `diagonal` do not attend to the key.
template <class Body>
void for_each_key(Matrix<float> rows, Index keys, Index first, const Body& body) {
  for (Index j = 0; j < first; ++j) body(rows.row(j), 0);
  for (Index j = first; j < keys; ++j) body(rows.row(j), static_cast<int>(j - first));
}

/// The largest score of each query of a tile over the keys that it attends to.
inline void max_scores(Matrix<float> rows, Index keys, Index first, QueryLanes& max) {
  std::fill_n(max, query_tile, -std::numeric_limits<float>::infinity());
  for_each_key(rows, keys, first, [&](const float* row, int diagonal) {
#pragma omp simd
    for (int i = 0; i < query_tile; ++i) max[i] = i >= diagonal && row[i] > max[i] ? row[i] : max[i];
  });
}

/// The sum of a tile's rows, lane by lane.
inline void sum_rows(Matrix<const float> rows, QueryLanes& sums) {
  constexpr int vectors = query_tile / vector_width;
  // Even and odd rows are summed separately, so that an addition does not wait for the previous one.
  Vector even[vectors] = {}, odd[vectors] = {};
  Index j = 0;
  for (; j + 2 <= rows.rows; j += 2) {
    for (int v = 0; v < vectors; ++v) {
      even[v] += load(rows.row(j) + v * vector_width);
      odd[v] += load(rows.row(j + 1) + v * vector_width);
    }
  }
  for (int v = 0; v < vectors; ++v) {
    if (j < rows.rows) even[v] += load(rows.row(j) + v * vector_width);
    store(sums + v * vector_width, even[v] + odd[v]);
  }
}

inline bool all_finite(const float* values, Index count) {
  float zero = 0;
#pragma omp simd reduction(+ : zero)
  for (Index j = 0; j < count; ++j) zero += 0.0f * values[j];
  return zero == 0.0f;
}

/// out (D) = sum_j weights[j] values_j, where `values` is (keys, D).
template <class S>
void weighted_sum(const float* weights, Matrix<const S> values, float* out) {
  const auto add = [&]<int Vectors>(Index c) {
    Vector sums[Vectors] = {};
    for (Index j = 0; j < values.rows; ++j) {
#pragma GCC unroll 4
      for (int x = 0; x < Vectors; ++x) sums[x] += weights[j] * load(values.row(j) + c + x * vector_width);
    }
    for (int x = 0; x < Vectors; ++x) store(out + c + x * vector_width, sums[x]);
  };
  Index c = 0;
  for (; c + 4 * vector_width <= values.cols; c += 4 * vector_width) add.template operator()<4>(c);
  for (; c + vector_width <= values.cols; c += vector_width) add.template operator()<1>(c);
  for (; c < values.cols; ++c) {
    out[c] = 0;
    for (Index j = 0; j < values.rows; ++j) out[c] += weights[j] * static_cast<float>(values.row(j)[c]);
  }
}

/// Processes the queries of one head one by one, each with the keys that it attends to. For a few queries at
/// the end of a long text, which would leave most lanes of a tile empty.
template <class S, class Entropies>
void attend_one_by_one(HeadView head, Matrix<const S> qkv, Matrix<S> y, float* log_sum,
                       const HeadWorkspace& my, [[maybe_unused]] Entropies entropies) {
  const Index T = head.shape.length, D = head.shape.head_dim;
  const Matrix<const S> q = head(qkv), k = head(qkv, 1), v = head(qkv, 2);
  const float scale = 1.0f / std::sqrt(static_cast<float>(D));
  const float scale_to_bits = scale * std::numbers::log2e_v<float>;
  float *const query = my.q.data, *const out = my.result.data, *const weights = my.weights.data;
  for (Index i = head.shape.first; i < T; ++i) {
    for (Index c = 0; c < D; ++c) query[c] = static_cast<float>(q.row(i)[c]);
    for (Index j = 0; j <= i; ++j) {
      const S* const key = k.row(j);
      // In a cache the rows of a head are far apart, and the processor does not fetch them by itself.
      for (Index c = 0; c < D; c += 64 / Index{sizeof(S)}) {
        __builtin_prefetch(k.row(std::min(j + keys_ahead, i)) + c);
        __builtin_prefetch(v.row(j) + c, 0, 2);
      }
      float score = 0;
#pragma omp simd reduction(+ : score)
      for (Index c = 0; c < D; ++c) score += query[c] * static_cast<float>(key[c]);
      weights[j] = score;
    }
    const float max = *std::max_element(weights, weights + i + 1);
    float sum = 0, weighted = 0;
#pragma omp simd reduction(+ : sum, weighted)
    for (Index j = 0; j <= i; ++j) {
      const float bits = scale_to_bits * (weights[j] - max), e = math::exp2(bits);
      weights[j] = e;
      sum += e;
      weighted += e * bits;
    }
    weighted_sum(weights, v.top(i + 1), out);
    const float log_of_sum = std::log(sum), per_sum = 1.0f / sum;
    for (Index c = 0; c < D; ++c) head(y).row(i)[c] = out[c] * per_sum;
    const Index at = (head.b * head.shape.heads + head.h) * T + i;
    log_sum[at] = scale * max + log_of_sum;
    if constexpr (!std::is_same_v<Entropies, Unobserved>)
      entropies.rows[at] = log_of_sum - weighted * per_sum * std::numbers::ln2_v<float>;
    if constexpr (HasMaxScores<Entropies>) entropies.max_scores[at] = scale * max;
  }
}

template <CpuDevice Device, class Entropies>
void attention_forward(Device& device, AttentionShape shape, Matrix<const typename Device::Scalar> qkv,
                       Matrix<typename Device::Scalar> y, float* log_sum, float* workspace,
                       [[maybe_unused]] Entropies entropies) {
  constexpr bool observed = !std::is_same_v<Entropies, Unobserved>;
  const Index T = shape.length, D = shape.head_dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(D));
  constexpr float bits_per_nat = std::numbers::log2e_v<float>;
  const float scale_to_bits = scale * bits_per_nat;  // exponentials are powers of two
  for_each_head(device, shape, workspace, [&](Index b, Index h, const HeadWorkspace& my) {
    const HeadView head{shape, b, h};
    if (shape.first > 0 && T - shape.first <= few_queries)
      return attend_one_by_one<typename Device::Scalar>(head, qkv, y, log_sum, my, entropies);
    const Matrix<const float> k = fill(my.k, head(qkv, 1)), v = fill(my.v, head(qkv, 2));
    float* const head_log_sum = log_sum + (b * shape.heads + h) * T;
    for (Index first = shape.first; first < T; first += query_tile) {
      const Index count = std::min(query_tile, T - first), keys = first + count;
      const Matrix<const float> q = fill(my.q, head(qkv).slice(first, count));
      product_with_queries(k.top(keys), q, my.q_transposed, my.weights);

      QueryLanes max, sum, weighted;
      max_scores(my.weights, keys, first, max);
      for_each_key(my.weights, keys, first, [&, scale_to_bits](float* row, int diagonal) {
        [[maybe_unused]] float* const product = my.d_weights.data + (row - my.weights.data);
#pragma omp simd
        for (int i = 0; i < query_tile; ++i) {
          const float bits = scale_to_bits * (row[i] - max[i]);
          const float e = math::exp2(bits);
          row[i] = e;
          if constexpr (observed) product[i] = e * bits;
        }
        // A condition inside the loop would become a branch around the exponential.
        std::fill_n(row, diagonal, 0.0f);
        if constexpr (observed) std::fill_n(product, diagonal, 0.0f);
      });
      sum_rows(my.weights.top(keys), sum);
      if constexpr (observed) sum_rows(my.d_weights.top(keys), weighted);

      const Matrix<float> out = my.result.top(count);
      tile_product(columns_of(my.weights), v.top(keys), out);
      const bool finite = all_finite(out.data, out.size());
      for (Index i = 0; i < count; ++i) {
        float* const y_row = out.row(i);
        // The tile gives keys past the diagonal weight 0, and 0 times a value that is not finite is NaN. Such
        // rows are computed again over only the keys that they attend to.
        if (!finite && !all_finite(y_row, D)) {
          tile_product(columns_of(my.weights.columns(i, 1)), v.top(first + i + 1), out.slice(i, 1));
        }
        const float log_of_sum = std::log(sum[i]), per_sum = 1.0f / sum[i];
        head_log_sum[first + i] = scale * max[i] + log_of_sum;
#pragma omp simd
        for (Index c = 0; c < D; ++c) y_row[c] *= per_sum;
        if constexpr (observed) {
          entropies.rows[(b * shape.heads + h) * T + first + i] =
              log_of_sum - weighted[i] * per_sum / bits_per_nat;
        }
        if constexpr (HasMaxScores<Entropies>)
          entropies.max_scores[(b * shape.heads + h) * T + first + i] = scale * max[i];
      }
      copy_rows(out, head(y).slice(first, count));
    }
  });
}

template <CpuDevice Device, class Gradients>
void attention_backward(Device& device, AttentionShape shape, Matrix<const typename Device::Scalar> qkv,
                        Matrix<const typename Device::Scalar> /*y*/, [[maybe_unused]] const float* log_sum,
                        Matrix<const typename Device::Scalar> d_y, Matrix<typename Device::Scalar> d_qkv,
                        float* workspace, [[maybe_unused]] Gradients entropies) {
  constexpr bool has_entropies = !std::is_same_v<Gradients, Unobserved>;
  const Index T = shape.length, D = shape.head_dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(D));
  const float scale_to_bits = scale * std::numbers::log2e_v<float>;
  for_each_head(device, shape, workspace, [&](Index b, Index h, const HeadWorkspace& my) {
    const HeadView head{shape, b, h};
    const Matrix<const float> k = fill(my.k, head(qkv, 1)), v = fill(my.v, head(qkv, 2));
    // From the last tile to the first: the last one covers every key and so writes all of d_k and d_v, and
    // the others add to them.
    for (Index first = (T - 1) / query_tile * query_tile; first >= 0; first -= query_tile) {
      const Index count = std::min(query_tile, T - first), keys = first + count;
      const Matrix<const float> q = fill(my.q, head(qkv).slice(first, count));
      const Matrix<const float> d_out = fill(my.d_y, head(d_y).slice(first, count));
      product_with_queries(k.top(keys), q, my.q_transposed, my.weights);
      product_with_queries(v.top(keys), d_out, my.d_y_transposed, my.d_weights);

      [[maybe_unused]] QueryLanes total = {}, entropy = {}, d_entropy = {};
      if constexpr (has_entropies) {
        for (Index i = 0; i < count; ++i) {
          const Index at = (b * shape.heads + h) * T + first + i;
          total[i] = log_sum[at];
          entropy[i] = entropies.rows[at];
          d_entropy[i] = entropies.d_rows[at];
        }
      }
      // The softmax is recomputed from scratch, since log_sum loses its digits with large scores. row_sum
      // comes from the same products rather than from d_y_i y_i, so that for a weight of 1 the gradient is
      // exactly 0.
      QueryLanes max, sum = {}, row_sum = {};  // row_sum = sum_j a_ij d_a_ij
      max_scores(my.weights, keys, first, max);
      for_each_key(my.weights, keys, first, [&, scale_to_bits](float* row, int diagonal) {
        float* const d_row = my.d_weights.data + (row - my.weights.data);
        QueryLanes e;
#pragma omp simd
        for (int i = 0; i < query_tile; ++i) e[i] = math::exp2(scale_to_bits * (row[i] - max[i]));
        std::fill_n(e, diagonal, 0.0f);
        std::fill_n(row, diagonal, 0.0f);
        std::fill_n(d_row, diagonal, 0.0f);
#pragma omp simd
        for (int i = 0; i < query_tile; ++i) {
          sum[i] += e[i];
          row_sum[i] += e[i] * d_row[i];
          if constexpr (has_entropies) d_row[i] -= d_entropy[i] * (scale * row[i] - total[i] + entropy[i]);
          row[i] = e[i];
        }
      });
      QueryLanes per_sum;
      for (int i = 0; i < query_tile; ++i) {
        per_sum[i] = 1.0f / sum[i];
        row_sum[i] *= per_sum[i];
      }
      for_each_key(my.weights, keys, first, [&, scale](float* row, int diagonal) {
        float* const d_row = my.d_weights.data + (row - my.weights.data);
#pragma omp simd
        for (int i = 0; i < query_tile; ++i) {
          const float weight = row[i] * per_sum[i];
          d_row[i] = scale * weight * (d_row[i] - row_sum[i]);
          row[i] = weight;
        }
        std::fill_n(d_row, diagonal, 0.0f);
      });

      const Matrix<float> d_q = my.result.top(count);
      tile_product(columns_of(my.d_weights), k.top(keys), d_q);
      copy_rows(d_q, head(d_qkv).slice(first, count));
      const auto left_in = [=](Matrix<float> sums) {
        return keys < T ? accumulate(sums.top(keys)) : Output<float>(sums.top(keys));
      };
      tile_product(rows_of(my.d_weights), q, left_in(my.d_k));
      tile_product(rows_of(my.weights), d_out, left_in(my.d_v));
    }
    copy_rows(my.d_k, head(d_qkv, 1));
    copy_rows(my.d_v, head(d_qkv, 2));
  });
}

}  // namespace lnfree::cpu
