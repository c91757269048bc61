#pragma once

#include <cfloat>
#include <climits>
#include <cmath>
#include <string>
#include <type_traits>

#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/cuda/elementwise.hpp>
#include <lnfree/backend/cuda/reduce.hpp>
#include <lnfree/backend/cuda/warp_product.hpp>
#include <lnfree/backend/primitives.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cuda {

/// How many queries, and how many keys, a block works on together; a warp takes sixteen of them. A tile of
/// floats is smaller, since shared memory is not.
template <class S>
inline constexpr int tile_rows = sizeof(S) == 2 ? 64 : 32;
template <class S>
inline constexpr int attention_threads = tile_rows<S> * 2;

/// Numbers from one row of a tile in shared memory to the next: 16 bytes more than it has, so that eight rows
/// lie in different banks.
template <class S, int Cols>
inline constexpr int tile_stride = Cols + pack_size<S>;
template <class S, int Cols>
inline constexpr int tile_size = tile_rows<S>* tile_stride<S, Cols>;

/// One head of one sequence, and the tile of its queries or keys that a block is about.
struct HeadTile {
  AttentionShape shape;
  Index b, h;
  int tile;

  __device__ static unsigned heads(AttentionShape shape) {
    return static_cast<unsigned>(shape.batch) * static_cast<unsigned>(shape.heads);
  }
  __device__ HeadTile(AttentionShape shape)
      : shape(shape),
        b(blockIdx.x % heads(shape) / static_cast<unsigned>(shape.heads)),
        h(blockIdx.x % heads(shape) % static_cast<unsigned>(shape.heads)),
        tile(static_cast<int>(blockIdx.x / heads(shape))) {}

  /// This head's columns, from row `first` of the sequence on, in the `part`-th of the matrices that lie side
  /// by side: Q | K | V.
  template <class T>
  __device__ Matrix<T> rows(Matrix<T> matrix, int first, int part = 0) const {
    const int width = shape.heads * shape.head_dim;
    return {matrix.data + (b * shape.length + first) * matrix.stride + part * width + h * shape.head_dim,
            shape.length - first, shape.head_dim, matrix.stride};
  }
  /// This head's numbers in a (B, H, T) array.
  template <class T>
  __device__ T* numbers(T* array) const {
    return array + (b * shape.heads + h) * shape.length;
  }
  __device__ Unobserved of_head(Unobserved) const { return {}; }
  __device__ EntropyGradients<float> of_head(EntropyGradients<float> gradients) const {
    return {numbers(gradients.rows), numbers(gradients.d_rows)};
  }
};

/// Copies a tile to shared memory, zeros where the matrix ends. `whole`: rows are whole packs.
template <int Cols, class S>
__device__ void load_tile(S* to, Matrix<const S> from, bool whole) {
  constexpr int N = pack_size<S>, packs = Cols / N;
  for (int at = static_cast<int>(threadIdx.x); at < tile_rows<S> * packs; at += attention_threads<S>) {
    const int i = at / packs, j = at % packs * N;
    Pack<N, S> pack;
    if (whole && i < from.rows && j < from.cols) {
      pack = *reinterpret_cast<const Pack<N, S>*>(from.row(i) + j);
    } else {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        pack.values[e] = i < from.rows && j + e < from.cols ? from.row(i)[j + e] : S(0.0f);
      }
    }
    *reinterpret_cast<Pack<N, S>*>(to + i * tile_stride<S, Cols> + j) = pack;
  }
}

/// Copies a tile from shared memory, as far as the matrix goes.
template <int Cols, class S>
__device__ void store_tile(Matrix<S> to, const S* from, bool whole) {
  constexpr int N = pack_size<S>, packs = Cols / N;
  for (int at = static_cast<int>(threadIdx.x); at < tile_rows<S> * packs; at += attention_threads<S>) {
    const int i = at / packs, j = at % packs * N;
    if (i >= to.rows) continue;
    const Pack<N, S> pack = *reinterpret_cast<const Pack<N, S>*>(from + i * tile_stride<S, Cols> + j);
    if (whole && j < to.cols) {
      store(to.row(i) + j, pack);
    } else {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        if (j + e < to.cols) to.row(i)[j + e] = pack.values[e];
      }
    }
  }
}

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

/// e^x, as fast as the precision S allows.
template <class S>
__device__ float fast_exp(float x) {
  if constexpr (sizeof(S) == 2) {
    return __expf(x);
  } else {
    return expf(x);
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
inline constexpr std::size_t forward_shared_bytes =
    sizeof(S) * (3 * tile_size<S, Dim> + tile_size<S, tile_rows<S>>)+sizeof(int) * Dim;

/// A block for each tile of queries of each head, which meets tiles of keys one after the other: with the
/// largest score m so far, it keeps sum e^(s-m), sum e^(s-m) v and, observed, u = sum e^(s-m) (s-m). Dim is
/// head_dim, or more.
template <int Dim, class S, class Entropies>
__global__ void __launch_bounds__(attention_threads<S>, 1)
    attention_forward_kernel(AttentionShape shape, Matrix<const S> qkv, Matrix<S> y, float* log_sum,
                             [[maybe_unused]] Entropies entropies, float scale, bool whole) {
  constexpr bool observed = !std::is_same_v<Entropies, Unobserved>;
  constexpr int tile = tile_rows<S>, stride = tile_stride<S, Dim>, weight_stride = tile_stride<S, tile>;
  S* const q = shared_memory<S>();
  S *const k = q + tile_size<S, Dim>, *const v = k + tile_size<S, Dim>,
           *const weights = v + tile_size<S, Dim>;
  int* const first_nonfinite = reinterpret_cast<int*>(weights + tile_size<S, tile>);  // (Dim)

  // The last tile of queries meets the most keys: it begins first.
  const HeadTile head(shape);
  const int query_tile = (shape.length - 1) / tile - head.tile, first_query = query_tile * tile;
  const int my_rows = static_cast<int>(threadIdx.x / 32) * 16;
  S *const my_q = q + my_rows * stride, *const my_weights = weights + my_rows * weight_stride;
  for (int j = static_cast<int>(threadIdx.x); j < Dim; j += attention_threads<S>)
    first_nonfinite[j] = INT_MAX;
  load_tile<Dim>(q, head.rows(qkv, first_query), whole);

  WarpRows<Dim> sums;
  float max[2] = {-INFINITY, -INFINITY}, sum[2] = {}, weighted[2] = {};  // of rows l / 4 and l / 4 + 8
  for (int first_key = 0; first_key <= first_query; first_key += tile) {
    const bool diagonal = first_key == first_query;
    __syncthreads();
    load_tile<Dim>(k, head.rows(qkv, first_key, 1), whole);
    load_tile<Dim>(v, head.rows(qkv, first_key, 2), whole);
    __syncthreads();
    if (diagonal) {
      set_aside_nonfinite<Dim>(v, first_key, first_nonfinite);
      __syncthreads();
    }

    WarpRows<tile> scores;
    warp_product<Dim, Lies::by_rows, Lies::transposed>(scores, my_q, stride, k, stride);
    const auto visible = [&](int n, int e) {
      return !diagonal || scores.col(n, e) <= my_rows + scores.row(e);
    };
    float tile_max[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int n = 0; n < tile / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        scores.numbers[n][e] *= scale;
        if (visible(n, e)) tile_max[e / 2] = fmaxf(tile_max[e / 2], scores.numbers[n][e]);
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float larger = fmaxf(max[r], row_max(tile_max[r]));
      const float factor = fast_exp<S>(max[r] - larger);
      if constexpr (observed) {
        const float shift = first_key == 0 ? 0.0f : max[r] - larger;
        weighted[r] = factor * (weighted[r] + shift * sum[r]);
      }
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
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float s = scores.numbers[n][e] - max[e / 2];
        const float weight = visible(n, e) ? fast_exp<S>(s) : 0.0f;
        if constexpr (observed) weighted[e / 2] += visible(n, e) ? weight * s : 0.0f;
        sum[e / 2] += weight;
        scores.numbers[n][e] = weight;
      }
    }
    scores.write(my_weights, weight_stride);
    __syncwarp();
    warp_product<tile, Lies::by_rows, Lies::by_rows>(sums, my_weights, weight_stride, v, stride);
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] = row_sum(sum[r]);
    const float per_sum = 1.0f / sum[r], log_of_sum = logf(sum[r]);
    const int query = first_query + my_rows + sums.row(2 * r);
    const bool writes = threadIdx.x % 4 == 0 && query < shape.length;
    if (writes) head.numbers(log_sum)[query] = max[r] + log_of_sum;
    if constexpr (observed) {
      const float entropy = log_of_sum - row_sum(weighted[r]) * per_sum;
      if (writes) head.numbers(entropies.rows)[query] = fabsf(entropy) <= FLT_MAX ? entropy : NAN;
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

/// For each query y d_y = sum_j a_j d_a_j, (B, H, T); a warp for each.
template <class S>
__global__ void __launch_bounds__(128)
    output_products_kernel(AttentionShape shape, Matrix<const S> y, Matrix<const S> d_y, float* products) {
  const Index at = static_cast<Index>(blockIdx.x) * 4 + threadIdx.x / 32;  // of (B, T, H)
  if (at >= y.rows * shape.heads) return;
  const Index i = at / shape.heads, h = at % shape.heads;
  float sum = 0;
  for (Index c = threadIdx.x % 32; c < shape.head_dim; c += 32) {
    sum += static_cast<float>(y.row(i)[h * shape.head_dim + c]) *
           static_cast<float>(d_y.row(i)[h * shape.head_dim + c]);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) {
    products[(i / shape.length * shape.heads + h) * shape.length + i % shape.length] = sum;
  }
}

/// The tiles of one head that a block of the backward pass holds, in shared memory. The gradients of queries
/// need no weights.
template <class S, int Dim, bool WithWeights>
struct BackwardTiles {
  static constexpr int tile = tile_rows<S>, stride = tile_stride<S, Dim>,
                       weight_stride = tile_stride<S, tile>;
  static constexpr std::size_t bytes =
      sizeof(S) * (4 * tile_size<S, Dim> + (WithWeights ? 2 : 1) * tile_size<S, tile>);

  S *q, *d_y, *k, *v;     // (tile, Dim)
  S *d_scores, *weights;  // (tile of queries, tile of keys)

  __device__ BackwardTiles() {
    S* memory = shared_memory<S>();
    for (S** piece : {&q, &d_y, &k, &v}) {
      *piece = memory;
      memory += tile_size<S, Dim>;
    }
    d_scores = memory;
    weights = memory + tile_size<S, tile>;
  }

  /// The gradient of this warp's rows of scores, times their scale, and their weights, rounded into the tiles
  /// of those names. log_sum and products belong to the head.
  template <class Gradients>
  __device__ void gradients(int length, int first_query, int first_key, const float* log_sum,
                            const float* products, [[maybe_unused]] Gradients entropies, float scale) const {
    const int my_rows = static_cast<int>(threadIdx.x / 32) * 16, upper = WarpRows<16>::row(0);
    // Of rows l / 4 and l / 4 + 8. Queries beyond the last see no key.
    int last_key[2] = {-1, -1};
    float total[2] = {}, product[2] = {};
    [[maybe_unused]] float entropy[2] = {}, d_entropy[2] = {};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int query = first_query + my_rows + upper + 8 * r;
      if (query >= length) continue;
      last_key[r] = query;
      total[r] = log_sum[query];
      product[r] = products[query];
      if constexpr (!std::is_same_v<Gradients, Unobserved>) {
        entropy[r] = entropies.rows[query];
        d_entropy[r] = entropies.d_rows[query];
      }
    }
    // In pieces that registers hold beside the sums of the largest heads.
    constexpr int piece = Dim > 64 ? 16 : 32;
    for (int key = 0; key < tile; key += piece) {
      WarpRows<piece> scores, d_weights;
      warp_product<Dim, Lies::by_rows, Lies::transposed>(scores, q + my_rows * stride, stride,
                                                         k + key * stride, stride);
      warp_product<Dim, Lies::by_rows, Lies::transposed>(d_weights, d_y + my_rows * stride, stride,
                                                         v + key * stride, stride);
#pragma unroll
      for (int n = 0; n < piece / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const bool visible = first_key + key + scores.col(n, e) <= last_key[e / 2];
          const float log_weight = scale * scores.numbers[n][e] - total[e / 2];
          const float weight = visible ? fast_exp<S>(log_weight) : 0.0f;
          float d_weight = d_weights.numbers[n][e] - product[e / 2];
          if constexpr (!std::is_same_v<Gradients, Unobserved>) {
            d_weight -= d_entropy[e / 2] * (log_weight + entropy[e / 2]);
          }
          scores.numbers[n][e] = weight;
          d_weights.numbers[n][e] = visible ? scale * weight * d_weight : 0.0f;
        }
      }
      if constexpr (WithWeights) scores.write(weights + my_rows * weight_stride + key, weight_stride);
      d_weights.write(d_scores + my_rows * weight_stride + key, weight_stride);
    }
  }
};

/// d_k and d_v of one tile of keys, which all queries from there on see. Where numbers need not leave their
/// registers for it, these are few enough for three blocks at a time.
template <int Dim, class S, class Gradients>
__global__ void __launch_bounds__(attention_threads<S>, sizeof(S) == 2 && Dim <= 64 ? 3 : 1)
    key_gradients_kernel(AttentionShape shape, Matrix<const S> qkv, const float* log_sum,
                         const float* products, Matrix<const S> d_y, Matrix<S> d_qkv, Gradients entropies,
                         float scale, bool whole) {
  using Tiles = BackwardTiles<S, Dim, true>;
  const Tiles my;
  const HeadTile head(shape);
  const int first_key = head.tile * Tiles::tile, my_rows = static_cast<int>(threadIdx.x / 32) * 16;
  load_tile<Dim>(my.k, head.rows(qkv, first_key, 1), whole);
  load_tile<Dim>(my.v, head.rows(qkv, first_key, 2), whole);
  WarpRows<Dim> d_k, d_v;
  for (int first_query = first_key; first_query < shape.length; first_query += Tiles::tile) {
    __syncthreads();
    load_tile<Dim>(my.q, head.rows(qkv, first_query), whole);
    load_tile<Dim>(my.d_y, head.rows(d_y, first_query), whole);
    __syncthreads();
    my.gradients(shape.length, first_query, first_key, head.numbers(log_sum), head.numbers(products),
                 head.of_head(entropies), scale);
    __syncthreads();
    warp_product<Tiles::tile, Lies::transposed, Lies::by_rows>(d_v, my.weights + my_rows,
                                                               Tiles::weight_stride, my.d_y, Tiles::stride);
    warp_product<Tiles::tile, Lies::transposed, Lies::by_rows>(d_k, my.d_scores + my_rows,
                                                               Tiles::weight_stride, my.q, Tiles::stride);
  }
  __syncthreads();
  d_k.write(my.k + my_rows * Tiles::stride, Tiles::stride);
  d_v.write(my.v + my_rows * Tiles::stride, Tiles::stride);
  __syncthreads();
  store_tile<Dim>(head.rows(d_qkv, first_key, 1), my.k, whole);
  store_tile<Dim>(head.rows(d_qkv, first_key, 2), my.v, whole);
}

/// d_q of one tile of queries, from all keys up to there. The weights are computed once more: cheaper than to
/// let the blocks of d_k and d_v add to one d_q in a fixed order.
template <int Dim, class S, class Gradients>
__global__ void __launch_bounds__(attention_threads<S>, 1)
    query_gradients_kernel(AttentionShape shape, Matrix<const S> qkv, const float* log_sum,
                           const float* products, Matrix<const S> d_y, Matrix<S> d_qkv, Gradients entropies,
                           float scale, bool whole) {
  using Tiles = BackwardTiles<S, Dim, false>;
  const Tiles my;
  const HeadTile head(shape);
  const int first_query = ((shape.length - 1) / Tiles::tile - head.tile) * Tiles::tile;
  const int my_rows = static_cast<int>(threadIdx.x / 32) * 16;
  load_tile<Dim>(my.q, head.rows(qkv, first_query), whole);
  load_tile<Dim>(my.d_y, head.rows(d_y, first_query), whole);
  WarpRows<Dim> d_q;
  for (int first_key = 0; first_key <= first_query; first_key += Tiles::tile) {
    __syncthreads();
    load_tile<Dim>(my.k, head.rows(qkv, first_key, 1), whole);
    load_tile<Dim>(my.v, head.rows(qkv, first_key, 2), whole);
    __syncthreads();
    my.gradients(shape.length, first_query, first_key, head.numbers(log_sum), head.numbers(products),
                 head.of_head(entropies), scale);
    __syncwarp();
    warp_product<Tiles::tile, Lies::by_rows, Lies::by_rows>(d_q, my.d_scores + my_rows * Tiles::weight_stride,
                                                            Tiles::weight_stride, my.k, Tiles::stride);
  }
  d_q.write(my.q + my_rows * Tiles::stride, Tiles::stride);  // where only this warp has read
  __syncthreads();
  store_tile<Dim>(head.rows(d_qkv, first_query), my.q, whole);
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
  return Index{shape.batch} * shape.heads * ((shape.length + tile_rows<S> - 1) / tile_rows<S>);
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
    device.stream().launch(attention_forward_kernel<dim(), S, Entropies>, tile_blocks<S>(shape),
                           attention_threads<S>, forward_shared_bytes<S, dim()>, shape, qkv, y, log_sum,
                           entropies, score_scale(shape), whole_heads<S>(shape, qkv, y));
  });
}

template <CudaDevice D, class Gradients>
void attention_backward(D& device, AttentionShape shape, Matrix<const typename D::Scalar> qkv,
                        Matrix<const typename D::Scalar> y, const float* log_sum,
                        Matrix<const typename D::Scalar> d_y, Matrix<typename D::Scalar> d_qkv,
                        float* workspace, Gradients entropies) {
  using S = typename D::Scalar;
  device.stream().launch(output_products_kernel<S>, (shape.rows() * shape.heads + 3) / 4, 128, 0, shape, y,
                         d_y, workspace);
  with_head_dim(shape.head_dim, [&](auto dim) {
    const bool whole = whole_heads<S>(shape, qkv, d_y, d_qkv);
    const auto launch = [&](auto kernel, std::size_t shared_bytes) {
      device.stream().launch(kernel, tile_blocks<S>(shape), attention_threads<S>, shared_bytes, shape, qkv,
                             log_sum, workspace, d_y, d_qkv, entropies, score_scale(shape), whole);
    };
    launch(key_gradients_kernel<dim(), S, Gradients>, BackwardTiles<S, dim(), true>::bytes);
    launch(query_gradients_kernel<dim(), S, Gradients>, BackwardTiles<S, dim(), false>::bytes);
  });
}

}  // namespace lnfree::cuda
