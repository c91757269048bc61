#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/eigen/device.hpp>
#include <lnfree/device/eigen/product.hpp>
#include <lnfree/device/eigen/views.hpp>
#include <lnfree/device/primitives.hpp>

namespace lnfree::eigen {

/// Queries processed together. A tile covers the keys up to its last query only.
inline constexpr Index query_tile = 32;

/// Two rows of weights for each query of a tile, for each thread.
template <class S>
Index attention_workspace(EigenCpu<S>& device, AttentionShape shape) {
  return 2 * query_tile * shape.length * device.planned_threads;
}

/// The queries [first, first + count) of one head of one sequence.
template <class S>
struct QueryTile {
  AttentionShape shape;
  Index b, h, first, count;
  S* memory;

  Index keys() const { return first + count; }
  /// The number of keys that query i of the tile attends to.
  Index keys_of(Index i) const { return first + i + 1; }
  /// The index of query i of the tile in an array (B, H, T).
  Index at(Index i) const { return (b * shape.heads + h) * shape.length + first + i; }

  /// From matrix `part` of Q | K | V, which are side by side: the rows of the tile's queries, and of the keys
  /// that it covers.
  template <class T>
  Matrix<T> of_queries(Matrix<T> matrix, Index part = 0) const {
    return columns(matrix, part).slice(b * shape.length + first, count);
  }
  template <class T>
  Matrix<T> of_keys(Matrix<T> matrix, Index part = 0) const {
    return columns(matrix, part).slice(b * shape.length, keys());
  }

  /// (count, keys), the tile's scores and then its weights, and their gradients.
  Matrix<S> weights() const { return {memory, count, keys()}; }
  Matrix<S> d_weights() const { return {memory + query_tile * shape.length, count, keys()}; }

 private:
  template <class T>
  Matrix<T> columns(Matrix<T> matrix, Index part) const {
    return matrix.columns(part * shape.width() + h * shape.head_dim, shape.head_dim);
  }
};

/// Calls body(tile) for the tiles of every head of every sequence; threads share the heads.
template <class S, class Body>
void for_each_query_tile(EigenCpu<S>& device, AttentionShape shape, S* workspace, const Body& body) {
  parallel_for(
      Index{shape.batch} * shape.heads, 1,
      [&](Index begin, Index end) {
        S* const memory = workspace + omp_get_thread_num() * 2 * query_tile * shape.length;
        for (Index head = begin; head < end; ++head) {
          for (Index first = shape.first; first < shape.length; first += query_tile) {
            const Index count = std::min(query_tile, shape.length - first);
            body(QueryTile<S>{shape, head / shape.heads, head % shape.heads, first, count, memory});
          }
        }
      },
      1, device.planned_threads);
}

template <class S, class Entropies>
void attention_forward(EigenCpu<S>& device, AttentionShape shape, std::type_identity_t<Matrix<const S>> qkv,
                       Matrix<S> y, S* log_sum, S* workspace, [[maybe_unused]] Entropies entropies) {
  const S scale = S(1) / std::sqrt(static_cast<S>(shape.head_dim));
  for_each_query_tile(device, shape, workspace, [&](const QueryTile<S>& tile) {
    const Matrix<const S> v = tile.of_keys(qkv, 2);
    const Matrix<S> weights = tile.weights(), out = tile.of_queries(y);
    product<S>(tile.of_queries(qkv), transpose(tile.of_keys(qkv, 1)), weights);
    for (Index i = 0; i < tile.count; ++i) {
      auto s = numbers(weights.row(i), tile.keys_of(i));
      const S max = s.maxCoeff();
      s = scale * (s - max);
      [[maybe_unused]] S weighted = 0;
      if constexpr (!std::is_same_v<Entropies, Unobserved>) weighted = (s.exp() * s).sum();
      s = s.exp();
      const S sum = s.sum();
      s /= sum;
      log_sum[tile.at(i)] = scale * max + std::log(sum);
      if constexpr (!std::is_same_v<Entropies, Unobserved>)
        entropies.rows[tile.at(i)] = std::log(sum) - weighted / sum;
      if constexpr (HasMaxScores<Entropies>) entropies.max_scores[tile.at(i)] = scale * max;
    }
    // First the keys before the tile, which all of its queries attend to, then for each query its keys within
    // the tile. Values of later keys may not be finite, so they are not even multiplied by 0.
    product<S>(weights.columns(0, tile.first), v.top(tile.first), out);
    for (Index i = 0; i < tile.count; ++i) {
      row(out, i).matrix().noalias() +=
          numbers(weights.row(i) + tile.first, i + 1).matrix() * as_eigen(v.slice(tile.first, i + 1));
    }
  });
}

template <class S, class Gradients>
void attention_backward(EigenCpu<S>& device, AttentionShape shape, std::type_identity_t<Matrix<const S>> qkv,
                        std::type_identity_t<Matrix<const S>> /*y*/, const S* /*log_sum*/,
                        std::type_identity_t<Matrix<const S>> d_y, Matrix<S> d_qkv, S* workspace,
                        [[maybe_unused]] Gradients entropies) {
  const S scale = S(1) / std::sqrt(static_cast<S>(shape.head_dim));
  for_each_row(d_qkv.rows, d_qkv.cols, [&](Index i) { row(d_qkv, i).setZero(); });
  for_each_query_tile(device, shape, workspace, [&](const QueryTile<S>& tile) {
    const Matrix<const S> q = tile.of_queries(qkv), k = tile.of_keys(qkv, 1), v = tile.of_keys(qkv, 2);
    const Matrix<const S> d_out = tile.of_queries(d_y);
    const Matrix<S> weights = tile.weights(), d_weights = tile.d_weights();
    product<S>(q, transpose(k), weights);
    product<S>(d_out, transpose(v), d_weights);
    for (Index i = 0; i < tile.count; ++i) {
      // The softmax is recomputed from scratch, since log_sum loses its digits with large scores.
      auto a = numbers(weights.row(i), tile.keys_of(i)), d = numbers(d_weights.row(i), tile.keys_of(i));
      a = scale * (a - a.maxCoeff());
      if constexpr (!std::is_same_v<Gradients, Unobserved>) {
        // ln a_ij + H_i; its mean, weighted by a_ij, is 0.
        const S entropy = entropies.rows[tile.at(i)], d_entropy = entropies.d_rows[tile.at(i)];
        d -= d_entropy * (a - std::log(a.exp().sum()) + entropy);
      }
      a = a.exp();
      a /= a.sum();
      d = scale * a * (d - (a * d).sum());
      for (const Matrix<S>& rows : {weights, d_weights})
        row(rows, i).tail(tile.keys() - tile.keys_of(i)).setZero();
    }
    product<S>(d_weights, k, tile.of_queries(d_qkv));
    product<S>(transpose(d_weights), q, accumulate(tile.of_keys(d_qkv, 1)));
    product<S>(transpose(weights), d_out, accumulate(tile.of_keys(d_qkv, 2)));
  });
}

}  // namespace lnfree::eigen
