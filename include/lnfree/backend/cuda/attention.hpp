#pragma once

#include <algorithm>
#include <bit>
#include <cfloat>
#include <climits>
#include <cmath>
#include <string>
#include <type_traits>

#include <lnfree/backend/cuda/async_copy.hpp>
#include <lnfree/backend/cuda/attention_tile.hpp>
#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/cuda/exponential.hpp>
#include <lnfree/backend/cuda/packs.hpp>
#include <lnfree/backend/cuda/reduce.hpp>
#include <lnfree/backend/cuda/warp_product.hpp>
#include <lnfree/backend/primitives.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cuda {

/// Replaces the values of a tile that are not finite by zeros, and notes for each column the first key that
/// had one: a key's weight is 0 for the queries before it, which such a value would turn into NaN.
template <int Cols, class S>
__device__ void set_aside_nonfinite(S* values, int first_key, int* first_nonfinite) {
  for (int at = static_cast<int>(threadIdx.x); at < tile_rows<S> * Cols; at += attention_threads<S>) {
    const int i = at / Cols, j = at % Cols;
    S& value = values[i * tile_stride<S, Cols> + j];
    if (fabsf(static_cast<float>(value)) <= FLT_MAX) continue;
    value = S(0.0f);
    atomicMin(&first_nonfinite[j], first_key + i);  // an order of integers: no matter who comes first
  }
}

/// The four lanes that hold a row give its sum, or its maximum.
__device__ inline float row_sum(float value) {
  value += __shfl_xor_sync(whole_warp, value, 1);
  return value + __shfl_xor_sync(whole_warp, value, 2);
}
__device__ inline float row_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(whole_warp, value, 1));
  return fmaxf(value, __shfl_xor_sync(whole_warp, value, 2));
}

template <class S, int Dim>
inline constexpr std::size_t forward_shared_bytes = sizeof(S) * 3 * tile_size<S, Dim> + sizeof(int) * Dim;

/// A block for each tile of queries of each head, which meets tiles of keys one after the other: with the
/// largest score m so far, it keeps sum e^(s-m), sum e^(s-m) v and, observed, u = sum e^(s-m) (s-m). Scores
/// stay in registers, and so do their weights. Dim is head_dim, or more. A query times a key times to_bits is
/// their score in bits: e^score is 2 to the power of that. Registers are few enough for four blocks at a time
/// where numbers need not leave them for it.
template <int Dim, class S, class Entropies>
__global__ void __launch_bounds__(attention_threads<S>, sizeof(S) == 2 && Dim <= 64 ? 4 : 1)
    attention_forward_kernel(AttentionShape shape, Matrix<const S> qkv, Matrix<S> y, float* log_sum,
                             [[maybe_unused]] Entropies entropies, float to_bits, bool whole) {
  constexpr bool observed = !std::is_same_v<Entropies, Unobserved>;
  constexpr int tile = tile_rows<S>, stride = tile_stride<S, Dim>;
  S* const q = shared_memory<S>();
  S *const k = q + tile_size<S, Dim>, *const v = k + tile_size<S, Dim>;
  int* const first_nonfinite = reinterpret_cast<int*>(v + tile_size<S, Dim>);  // (Dim)

  // The last tiles of queries meet the most keys: they begin first.
  const unsigned heads = static_cast<unsigned>(shape.batch * shape.heads);
  const HeadTile head(shape, blockIdx.x % heads, tiles_of_head<S>(shape) - 1 - blockIdx.x / heads);
  const int first_query = head.tile * tile;
  const int my_rows = static_cast<int>(threadIdx.x / 32) * 16;
  S* const my_q = q + my_rows * stride;
  for (int j = static_cast<int>(threadIdx.x); j < Dim; j += attention_threads<S>)
    first_nonfinite[j] = INT_MAX;
  begin_load<Dim>(q, head.rows(qkv, first_query), whole);

  WarpRows<Dim> sums;
  float max[2] = {-INFINITY, -INFINITY}, sum[2] = {}, weighted[2] = {};  // of rows l / 4 and l / 4 + 8
  for (int first_key = 0; first_key <= first_query; first_key += tile) {
    const bool diagonal = first_key == first_query;
    __syncthreads();
    begin_load<Dim>(k, head.rows(qkv, first_key, 1), whole);
    begin_load<Dim>(v, head.rows(qkv, first_key, 2), whole);
    wait_for_copies();
    if (__syncthreads_or(diagonal && !my_packs_are_finite<Dim>(v))) {
      set_aside_nonfinite<Dim>(v, first_key, first_nonfinite);
      __syncthreads();
    }

    const int keys = diagonal ? my_rows + 16 : tile;  // that any of this warp's queries sees
    WarpRows<tile> scores;
    add_product_of_rows<Dim>(scores, my_q, k, stride, keys);
    const auto visible = [&](int n, int e) {
      return !diagonal || scores.col(n, e) <= my_rows + scores.row(e);
    };
    float tile_max[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int n = 0; n < tile / 8; ++n) {
      if (8 * n >= keys) break;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        if (visible(n, e)) tile_max[e / 2] = fmaxf(tile_max[e / 2], scores.numbers[n][e]);
      }
    }
    float max_bits[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float larger = fmaxf(max[r], row_max(tile_max[r]));
      max_bits[r] = larger * to_bits;
      const float shift = max[r] * to_bits - max_bits[r], factor = fast_exp2<S>(shift);
      if constexpr (observed) weighted[r] = first_key == 0 ? 0.0f : factor * (weighted[r] + shift * sum[r]);
      sum[r] *= factor;
      max[r] = larger;
#pragma unroll
      for (int n = 0; n < Dim / 8; ++n) {
        sums.numbers[n][2 * r] *= factor;
        sums.numbers[n][2 * r + 1] *= factor;
      }
    }
#pragma unroll
    for (int n = 0; n < tile / 8; ++n) {
      if (8 * n >= keys) break;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float bits = fmaf(scores.numbers[n][e], to_bits, -max_bits[e / 2]);
        const float weight = visible(n, e) ? fast_exp2<S>(bits) : 0.0f;
        if constexpr (observed) weighted[e / 2] += visible(n, e) ? weight * bits : 0.0f;
        sum[e / 2] += weight;
        scores.numbers[n][e] = weight;
      }
    }
    add_product(sums, scores, v, stride, keys);
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] = row_sum(sum[r]);
    const float per_sum = 1.0f / sum[r], log_of_sum = logf(sum[r]);
    const int query = first_query + my_rows + sums.row(2 * r);
    const bool writes = threadIdx.x % 4 == 0 && query < shape.length;
    if (writes) head.numbers(log_sum)[query] = max[r] * to_bits * ln_2 + log_of_sum;
    if constexpr (observed) {
      const float entropy = log_of_sum - row_sum(weighted[r]) * ln_2 * per_sum;
      if (writes) head.numbers(entropies.rows)[query] = fabsf(entropy) <= FLT_MAX ? entropy : NAN;
      if constexpr (HasMaxScores<Entropies>) {
        if (writes) head.numbers(entropies.max_scores)[query] = max[r] * to_bits * ln_2;
      }
    }
#pragma unroll
    for (int n = 0; n < Dim / 8; ++n) {
#pragma unroll
      for (int e = 2 * r; e < 2 * r + 2; ++e) {
        sums.numbers[n][e] = first_nonfinite[sums.col(n, e)] <= query ? NAN : sums.numbers[n][e] * per_sum;
      }
    }
  }
  sums.write(my_q, stride);  // where only this warp has read
  __syncthreads();
  store_tile<Dim>(head.rows(y, first_query), q, whole);
}

inline constexpr int product_threads = 128;

/// For each query y d_y = sum_j a_j d_a_j, (B, H, T), by as many neighbouring lanes: a power of two.
template <int N, class S>
__global__ void __launch_bounds__(product_threads)
    output_products_kernel(AttentionShape shape, Matrix<const S> y, Matrix<const S> d_y, float* products,
                           int lanes) {
  const Index at = (static_cast<Index>(blockIdx.x) * product_threads + threadIdx.x) / lanes;  // of (B, T, H)
  const Index i = at / shape.heads, h = at % shape.heads;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const bool there = i < y.rows;
  float sum = 0;
  for (int c = lane * N; there && c < shape.head_dim; c += lanes * N) {
    const Floats<N> left = load<N>(y.row(i) + h * shape.head_dim + c),
                    right = load<N>(d_y.row(i) + h * shape.head_dim + c);
#pragma unroll
    for (int e = 0; e < N; ++e) sum += left[e] * right[e];
  }
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    sum += __shfl_xor_sync(whole_warp, sum, distance);
  }
  if (there && lane == 0) {
    products[(i / shape.length * shape.heads + h) * shape.length + i % shape.length] = sum;
  }
}

/// The tiles of one head that a block of the backward pass holds, in shared memory.
template <class S, int Dim>
struct BackwardTiles {
  static constexpr int tile = tile_rows<S>, stride = tile_stride<S, Dim>;
  /// Rows or columns of scores that a warp works on together: what registers hold beside the sums of Dim
  /// channels.
  static constexpr int piece = Dim > 64 ? 16 : 32;
  static constexpr std::size_t bytes = sizeof(S) * 5 * tile_size<S, Dim> + sizeof(float) * 4 * tile;

  S *q, *d_y, *k, *v, *d_q;                             // (tile, Dim)
  float *log_sum, *products, *entropies, *d_entropies;  // (tile), of the queries; log_sum in bits

  __device__ BackwardTiles() {
    S* memory = shared_memory<S>();
    for (S** matrix : {&q, &d_y, &k, &v, &d_q}) {
      *matrix = memory;
      memory += tile_size<S, Dim>;
    }
    auto* numbers = reinterpret_cast<float*>(memory);
    for (float** of_queries : {&log_sum, &products, &entropies, &d_entropies}) {
      *of_queries = numbers;
      numbers += tile;
    }
  }

  __device__ void begin_keys(const HeadTile& head, Matrix<const S> qkv, int first_key, bool whole) const {
    begin_load<Dim>(k, head.rows(qkv, first_key, 1), whole);
    begin_load<Dim>(v, head.rows(qkv, first_key, 2), whole);
  }
  template <class Gradients>
  __device__ void begin_queries(const HeadTile& head, Matrix<const S> qkv, Matrix<const S> gradients,
                                int first_query, const float* log_sums, const float* all_products,
                                [[maybe_unused]] Gradients of_entropies, bool whole) const {
    begin_load<Dim>(q, head.rows(qkv, first_query), whole);
    begin_load<Dim>(d_y, head.rows(gradients, first_query), whole);
    const int i = static_cast<int>(threadIdx.x), query = first_query + i;
    if (i >= tile || query >= head.shape.length) return;
    log_sum[i] = head.numbers(log_sums)[query] * log2_e;
    products[i] = head.numbers(all_products)[query];
    if constexpr (!std::is_same_v<Gradients, Unobserved>) {
      entropies[i] = head.numbers(of_entropies.rows)[query];
      d_entropies[i] = head.numbers(of_entropies.d_rows)[query];
    }
  }

  /// Scores, as products of queries and keys, become weights, and the weights' gradients those of the scores,
  /// times their scale. A row is a key and a column a query, or the other way round; the first of each are
  /// given, of the queries within their tile, which begins at first_query.
  template <bool RowsAreKeys, class Gradients, int Cols>
  __device__ void differentiate(WarpRows<Cols>& scores, WarpRows<Cols>& d_weights, int first_query, int query,
                                int key, int length, float scale) const {
#pragma unroll
    for (int n = 0; n < Cols / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = scores.row(e), col = scores.col(n, e);
        const int i = query + (RowsAreKeys ? col : row), j = key + (RowsAreKeys ? row : col);
        const bool visible = j <= first_query + i && first_query + i < length;
        const float bits = fmaf(scores.numbers[n][e], scale * log2_e, -log_sum[i]);
        const float weight = visible ? fast_exp2<S>(bits) : 0.0f;
        float d_weight = d_weights.numbers[n][e] - products[i];
        if constexpr (!std::is_same_v<Gradients, Unobserved>) {
          d_weight -= d_entropies[i] * (bits * ln_2 + entropies[i]);
        }
        scores.numbers[n][e] = weight;
        d_weights.numbers[n][e] = visible ? scale * weight * d_weight : 0.0f;
      }
    }
  }
};

/// The gradients of one tile's queries, from all keys up to there, and of its keys and values, from all
/// queries from there on: every block has as much to do. A warp has the weights of sixteen queries, then of
/// sixteen keys, a row for each. All weights are computed twice: cheaper than to let blocks add to one d_q
/// in a fixed order. Where numbers need not leave their registers for it, these are few enough for
/// three blocks at a time.
template <int Dim, class S, class Gradients>
__global__ void __launch_bounds__(attention_threads<S>, sizeof(S) == 2 && Dim <= 64 ? 3 : 1)
    attention_backward_kernel(AttentionShape shape, Matrix<const S> qkv, const float* log_sum,
                              const float* products, Matrix<const S> d_y, Matrix<S> d_qkv,
                              Gradients entropies, float scale, bool whole) {
  using Tiles = BackwardTiles<S, Dim>;
  constexpr int tile = Tiles::tile, piece = Tiles::piece, stride = Tiles::stride;
  const Tiles my;
  // Blocks of one head follow one another: what several of them read is then in the second-level cache.
  const unsigned tiles = tiles_of_head<S>(shape);
  const HeadTile head(shape, blockIdx.x / tiles, blockIdx.x % tiles);
  const int first = head.tile * tile, my_first = static_cast<int>(threadIdx.x / 32) * 16;
  const int my_rows = my_first * stride;

  my.begin_queries(head, qkv, d_y, first, log_sum, products, entropies, whole);
  WarpRows<Dim> d_q;
  for (int first_key = 0; first_key <= first; first_key += tile) {
    __syncthreads();
    my.begin_keys(head, qkv, first_key, whole);
    wait_for_copies();
    __syncthreads();
    for (int key = 0; key < tile; key += piece) {
      if (first_key + key >= first + my_first + 16) break;  // the warp's queries see none of these
      WarpRows<piece> weights, d_scores;
      add_product_of_rows<Dim>(weights, my.q + my_rows, my.k + key * stride, stride);
      add_product_of_rows<Dim>(d_scores, my.d_y + my_rows, my.v + key * stride, stride);
      my.template differentiate<false, Gradients>(weights, d_scores, first, my_first, first_key + key,
                                                  shape.length, scale);
      add_product(d_q, d_scores, my.k + key * stride, stride);
    }
  }
  d_q.write(my.d_q + my_rows, stride);

  // The last tile of keys was this block's own, as the first one of queries is.
  WarpRows<Dim> d_k, d_v;
  for (int first_query = first; first_query < shape.length; first_query += tile) {
    if (first_query > first) {
      __syncthreads();
      my.begin_queries(head, qkv, d_y, first_query, log_sum, products, entropies, whole);
      wait_for_copies();
      __syncthreads();
    }
    for (int query = 0; query < tile; query += piece) {
      if (first_query + query + piece <= first + my_first) continue;  // these see none of the warp's keys
      WarpRows<piece> weights, d_scores;
      add_product_of_rows<Dim>(weights, my.k + my_rows, my.q + query * stride, stride);
      add_product_of_rows<Dim>(d_scores, my.v + my_rows, my.d_y + query * stride, stride);
      my.template differentiate<true, Gradients>(weights, d_scores, first_query, query, first + my_first,
                                                 shape.length, scale);
      add_product(d_v, weights, my.d_y + query * stride, stride);
      add_product(d_k, d_scores, my.q + query * stride, stride);
    }
  }
  __syncthreads();  // every warp has read the keys, as the first half's right factors
  d_k.write(my.k + my_rows, stride);
  d_v.write(my.v + my_rows, stride);
  __syncthreads();
  store_tile<Dim>(head.rows(d_qkv, first), my.d_q, whole);
  store_tile<Dim>(head.rows(d_qkv, first, 1), my.k, whole);
  store_tile<Dim>(head.rows(d_qkv, first, 2), my.v, whole);
}

/// Calls body(n) with n() the smallest of the kernels' head dimensions that holds this one.
template <class Body>
void with_head_dim(int head_dim, const Body& body) {
  if (head_dim <= 16) {
    body(std::integral_constant<int, 16>());
  } else if (head_dim <= 32) {
    body(std::integral_constant<int, 32>());
  } else if (head_dim <= 64) {
    body(std::integral_constant<int, 64>());
  } else if (head_dim <= 128) {
    body(std::integral_constant<int, 128>());
  } else {
    throw Error("attention on a GPU takes heads of up to 128 channels, not " + std::to_string(head_dim) +
                "; take more heads");
  }
}

/// Blocks of the kernels with a block for each tile of each head.
template <class S>
Index tile_blocks(AttentionShape shape) {
  return Index{shape.batch} * shape.heads * tiles_of_head<S>(shape);
}

/// Whether the rows of all heads are whole packs.
template <class S, class... Matrices>
bool whole_heads(AttentionShape shape, Matrices... matrices) {
  bool whole = false;
  with_packs<pack_size<S>>([&](auto n) { whole = n() > 1; }, matrices...);
  return whole && shape.head_dim % pack_size<S> == 0;
}

inline float score_scale(AttentionShape shape) {
  return 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
}

/// A number for each query of each head.
template <CudaDevice D>
Index attention_workspace(D&, AttentionShape shape) {
  return shape.rows() * shape.heads;
}

template <CudaDevice D, class Entropies>
void attention_forward(D& device, AttentionShape shape, Matrix<const typename D::Scalar> qkv,
                       Matrix<typename D::Scalar> y, float* log_sum, float* /*workspace*/,
                       Entropies entropies) {
  using S = typename D::Scalar;
  with_head_dim(shape.head_dim, [&](auto dim) {
    const Index blocks = Index{shape.batch} * shape.heads * query_tiles_of_head<S>(shape);
    device.stream().launch(attention_forward_kernel<dim(), S, Entropies>, blocks, attention_threads<S>,
                           forward_shared_bytes<S, dim()>, shape, qkv, y, log_sum, entropies,
                           score_scale(shape) * log2_e, whole_heads<S>(shape, qkv, y));
  });
}

template <CudaDevice D, class Gradients>
void attention_backward(D& device, AttentionShape shape, Matrix<const typename D::Scalar> qkv,
                        Matrix<const typename D::Scalar> y, const float* log_sum,
                        Matrix<const typename D::Scalar> d_y, Matrix<typename D::Scalar> d_qkv,
                        float* workspace, Gradients entropies) {
  using S = typename D::Scalar;
  const auto multiply_outputs = [&](auto n) {
    constexpr unsigned warp = 32;
    const unsigned packs = (static_cast<unsigned>(shape.head_dim) + n() - 1) / n();
    const auto lanes = static_cast<int>(std::min(warp, std::bit_ceil(packs)));
    const Index threads = shape.rows() * shape.heads * lanes;
    device.stream().launch(output_products_kernel<n(), S>, (threads + product_threads - 1) / product_threads,
                           product_threads, 0, shape, y, d_y, workspace, lanes);
  };
  if (whole_heads<S>(shape, y, d_y)) {
    multiply_outputs(std::integral_constant<int, pack_size<S>>());
  } else {
    multiply_outputs(std::integral_constant<int, 1>());
  }
  with_head_dim(shape.head_dim, [&](auto dim) {
    const bool whole = whole_heads<S>(shape, qkv, d_y, d_qkv);
    device.stream().launch(attention_backward_kernel<dim(), S, Gradients>, tile_blocks<S>(shape),
                           attention_threads<S>, BackwardTiles<S, dim()>::bytes, shape, qkv, log_sum,
                           workspace, d_y, d_qkv, entropies, score_scale(shape), whole);
  });
}

}  // namespace lnfree::cuda
