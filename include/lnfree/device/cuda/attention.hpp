#pragma once

#include <algorithm>
#include <cfloat>
#include <climits>
#include <cmath>
#include <string>
#include <type_traits>

#include <lnfree/core/error.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/async_copy.hpp>
#include <lnfree/device/cuda/device.hpp>
#include <lnfree/device/cuda/exponential.hpp>
#include <lnfree/device/cuda/factor_rounding.hpp>
#include <lnfree/device/cuda/packs.hpp>
#include <lnfree/device/cuda/reduce.hpp>
#include <lnfree/device/cuda/tiles.hpp>
#include <lnfree/device/primitives.hpp>

namespace lnfree::cuda {

/// Tiles of one head's queries, or of its keys.
template <class S>
LNFREE_HOST_DEVICE inline int tiles_of_head(AttentionShape shape) {
  return (shape.length + tile_rows<S> - 1) / tile_rows<S>;
}

/// One head of one sequence, and the tile of its queries and keys that a block computes.
struct HeadTile {
  AttentionShape shape;
  Index b, h;
  int tile;

  /// `head` counts the heads of all sequences.
  __device__ HeadTile(AttentionShape of_all, unsigned head, unsigned of_head)
      : shape(of_all),
        b(head / static_cast<unsigned>(of_all.heads)),
        h(head % static_cast<unsigned>(of_all.heads)),
        tile(static_cast<int>(of_head)) {}

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
};

/// Replaces the numbers of a tile that are not finite by zeros, and notes for each column the first key that
/// had one: a key's weight is 0 for the queries before it, and 0 times such a number would be NaN.
template <class S, int Dim>
__device__ void set_aside_nonfinite(SharedTile<S, Dim> tile, int first_key, int* first_nonfinite) {
  for (int at = static_cast<int>(threadIdx.x); at < tile.rows * Dim; at += tile.threads) {
    const int i = at / Dim, j = at % Dim;
    S& value = tile.data[i * tile.stride + j];
    if (fabsf(static_cast<float>(value)) <= FLT_MAX) continue;
    value = S(0.0f);
    atomicMin(&first_nonfinite[j], first_key + i);  // the smallest integer is the same in any order
  }
}

template <class S, int Dim>
inline constexpr std::size_t forward_shared_bytes =
    sizeof(S) * 3 * SharedTile<S, Dim>::size + sizeof(int) * Dim;

/// A block takes a tile of one head's queries past the tiles of keys, by the recurrence of the online
/// softmax: with m a query's largest score so far, z = sum e^(s-m), o = sum e^(s-m) v and, observed, u = sum
/// e^(s-m) (s-m). Exponents are powers of two: e^s is 2^(q k to_bits). Dim is head_dim or more. The launch
/// bounds ask for four blocks at a time on a multiprocessor, where that spills no registers.
template <int Dim, class S, class Entropies, class Rounding>
__global__ void __launch_bounds__(tile_threads<S>, sizeof(S) == 2 && Dim <= 64 ? 4 : 1)
    attention_forward_kernel(AttentionShape shape, Matrix<const S> qkv, Matrix<S> y, float* log_sum,
                             [[maybe_unused]] Entropies entropies, float to_bits, bool whole,
                             Rounding rounding) {
  constexpr bool observed = !std::is_same_v<Entropies, Unobserved>;
  using Tile = SharedTile<S, Dim>;
  const Tile q{shared_memory<S>()}, k{q.data + Tile::size}, v{k.data + Tile::size};
  int* const first_nonfinite = reinterpret_cast<int*>(v.data + Tile::size);  // (Dim)

  // The last tiles of queries have the most keys, so their blocks come first.
  const unsigned heads = static_cast<unsigned>(shape.batch * shape.heads);
  const HeadTile head(shape, blockIdx.x % heads,
                      static_cast<unsigned>(tiles_of_head<S>(shape)) - 1 - blockIdx.x / heads);
  const int first_query = head.tile * Tile::rows;
  const int my_first = static_cast<int>(threadIdx.x / 32) * 16;  // of the warp's queries, in the tile
  const Tile my_q = q.from(my_first);
  for (int j = static_cast<int>(threadIdx.x); j < Dim; j += Tile::threads) first_nonfinite[j] = INT_MAX;
  begin_load(q, head.rows(qkv, first_query), whole);

  RegisterTile<Dim> o;
  RowVector m = {-INFINITY, -INFINITY}, z = {}, u = {};
  for (int first_key = 0; first_key <= first_query; first_key += Tile::rows) {
    const bool diagonal = first_key == first_query;
    __syncthreads();
    begin_load(k, head.rows(qkv, first_key, 1), whole);
    begin_load(v, head.rows(qkv, first_key, 2), whole);
    wait_for_copies();
    if (__syncthreads_or(diagonal && !my_packs_are_finite(v))) {
      set_aside_nonfinite(v, first_key, first_nonfinite);
      __syncthreads();
    }
    const int keys = diagonal ? my_first + 16 : Tile::rows;  // that any of this warp's queries sees
    const auto visible = [&](Place at) { return !diagonal || at.col() <= my_first + at.row(); };

    RegisterTile<Tile::rows> s;
    mma(s, my_q, transposed(k), keys);  // S = Q K^T; to_bits holds 1 / sqrt(head_dim)
    RowVector s_max = lane_max(s, keys, visible);
    RowVector m_bits;
    for_each_row([&](Row i) {
      const float larger = fmaxf(m[i], row_max(s_max[i]));  // m' = max(m, max_j S_ij)
      m_bits[i] = larger * to_bits;
      const float shift = m[i] * to_bits - m_bits[i];  // m - m'
      const float alpha = fast_exp2<S>(shift);         // e^(m - m')
      if constexpr (observed) u[i] = first_key == 0 ? 0.0f : alpha * (u[i] + shift * z[i]);
      z[i] *= alpha;
      m[i] = larger;
      o.for_each_of(i, [&](Place at) { o[at] *= alpha; });
    });
    auto& p = s;
    p.for_each(keys, [&](Place at) {
      const float bits = fmaf(s[at], to_bits, -m_bits[at]);
      p[at] = visible(at) ? fast_exp2<S>(bits) : 0.0f;                     // P = e^(S - m)
      if constexpr (observed) u[at] += visible(at) ? p[at] * bits : 0.0f;  // u += P (S - m)
      z[at] += p[at];
    });
    mma(o, p, v, keys);  // O += P V
  }

  for_each_row([&](Row i) {
    z[i] = row_sum(z[i]);
    const float per_z = 1.0f / z[i], log_z = logf(z[i]);
    const int query = first_query + my_first + i.index();
    const bool writes = threadIdx.x % 4 == 0 && query < shape.length;
    if (writes) head.numbers(log_sum)[query] = m[i] * to_bits * ln_2 + log_z;  // l = m + ln z
    if constexpr (observed) {
      const float entropy = log_z - row_sum(u[i]) * ln_2 * per_z;  // H = ln z - u / z
      if (writes) head.numbers(entropies.rows)[query] = fabsf(entropy) <= FLT_MAX ? entropy : NAN;
      if constexpr (HasMaxScores<Entropies>) {
        if (writes) head.numbers(entropies.max_scores)[query] = m[i] * to_bits * ln_2;
      }
    }
    o.for_each_of(i, [&](Place at) {  // O / z
      o[at] = first_nonfinite[at.col()] <= query ? NAN : o[at] * per_z;
    });
  });
  store(my_q, o);  // only this warp has read these rows
  rounding.begin();
  __syncthreads();
  store(head.rows(y, first_query), q, whole, rounding);
  rounding.end();
}

template <class S, int Dim>
inline constexpr std::size_t delta_shared_bytes = sizeof(S) * 2 * SharedTile<S, Dim>::size;

/// D_i = y_i d_y_i = sum_j P_ij dP_ij of each query, (B, H, T). One block for each tile of a head.
template <int Dim, class S>
__global__ void __launch_bounds__(tile_threads<S>)
    delta_kernel(AttentionShape shape, Matrix<const S> y, Matrix<const S> d_y, float* delta, bool whole) {
  using Tile = SharedTile<S, Dim>;
  const Tile my_y{shared_memory<S>()}, my_d_y{my_y.data + Tile::size};
  const auto tiles = static_cast<unsigned>(tiles_of_head<S>(shape));
  const HeadTile head(shape, blockIdx.x / tiles, blockIdx.x % tiles);
  const int first = head.tile * Tile::rows;
  begin_load(my_y, head.rows(y, first), whole);
  begin_load(my_d_y, head.rows(d_y, first), whole);
  wait_for_copies();
  multiply_rows(my_y, my_d_y, [&](int i, float sum) {
    if (first + i < shape.length) head.numbers(delta)[first + i] = sum;
  });
}

/// What a block of the backward pass holds of one head, in shared memory.
template <class S, int Dim>
struct BackwardMemory {
  using Tile = SharedTile<S, Dim>;
  static constexpr std::size_t bytes = sizeof(S) * 5 * Tile::size + sizeof(float) * 4 * Tile::rows;

  Tile q, d_y, k, v, d_q;
  float *log_sum, *delta, *entropy, *d_entropy;  // of the queries; log_sum in bits

  __device__ BackwardMemory() {
    S* memory = shared_memory<S>();
    for (Tile* tile : {&q, &d_y, &k, &v, &d_q}) {
      tile->data = memory;
      memory += Tile::size;
    }
    auto* numbers = reinterpret_cast<float*>(memory);
    for (float** of_queries : {&log_sum, &delta, &entropy, &d_entropy}) {
      *of_queries = numbers;
      numbers += Tile::rows;
    }
  }

  __device__ void begin_keys(const HeadTile& head, Matrix<const S> qkv, int first_key, bool whole) const {
    begin_load(k, head.rows(qkv, first_key, 1), whole);
    begin_load(v, head.rows(qkv, first_key, 2), whole);
  }
  template <class Gradients>
  __device__ void begin_queries(const HeadTile& head, Matrix<const S> qkv, Matrix<const S> gradients,
                                int first_query, const float* log_sums, const float* deltas,
                                [[maybe_unused]] Gradients of_entropies, bool whole) const {
    begin_load(q, head.rows(qkv, first_query), whole);
    begin_load(d_y, head.rows(gradients, first_query), whole);
    const int i = static_cast<int>(threadIdx.x), query = first_query + i;
    if (i >= Tile::rows || query >= head.shape.length) return;
    log_sum[i] = head.numbers(log_sums)[query] * log2_e;
    delta[i] = head.numbers(deltas)[query];
    if constexpr (!std::is_same_v<Gradients, Unobserved>) {
      entropy[i] = head.numbers(of_entropies.rows)[query];
      d_entropy[i] = head.numbers(of_entropies.d_rows)[query];
    }
  }

  /// S, not yet scaled, becomes P = e^(S - l), and dP becomes dS = P (dP - D), scaled. Rows are queries and
  /// columns keys, or the other way round; the first of each are given, of queries within their tile.
  template <bool RowsAreKeys, class Gradients, int Cols>
  __device__ void differentiate(RegisterTile<Cols>& s, RegisterTile<Cols>& d_p, int first_query, int query,
                                int key, int length, float scale) const {
    auto &p = s, &d_s = d_p;
    s.for_each(Cols, [&](Place at) {
      const int i = query + (RowsAreKeys ? at.col() : at.row()),
                j = key + (RowsAreKeys ? at.row() : at.col());
      const bool visible = j <= first_query + i && first_query + i < length;
      const float log2_p = fmaf(s[at], scale * log2_e, -log_sum[i]);
      p[at] = visible ? fast_exp2<S>(log2_p) : 0.0f;
      float d_log_p = d_p[at] - delta[i];
      // dH_i / dS_ij = -P_ij (ln P_ij + H_i)
      if constexpr (!std::is_same_v<Gradients, Unobserved>)
        d_log_p -= d_entropy[i] * (log2_p * ln_2 + entropy[i]);
      d_s[at] = visible ? scale * p[at] * d_log_p : 0.0f;
    });
  }
};

/// The gradients of a tile's queries, from all keys up to there, then of its keys and values, from all
/// queries from there on: every block has the same amount of work. A warp has the weights of sixteen queries,
/// then of sixteen keys, one in each row. Computing all weights twice costs less than adding to one d_q in a
/// fixed order would. The launch bounds ask for three blocks at a time, where that spills no registers.
template <int Dim, class S, class Gradients, class Rounding>
__global__ void __launch_bounds__(tile_threads<S>, sizeof(S) == 2 && Dim <= 64 ? 3 : 1)
    attention_backward_kernel(AttentionShape shape, Matrix<const S> qkv, const float* log_sum,
                              const float* delta, Matrix<const S> d_y, Matrix<S> d_qkv, Gradients entropies,
                              float scale, bool whole, Rounding rounding) {
  using Tile = SharedTile<S, Dim>;
  // Rows or columns of scores that a warp works on together: what registers hold beside Dim columns of sums.
  constexpr int tile = Tile::rows, piece = Dim > 64 ? 16 : 32;
  const BackwardMemory<S, Dim> my;
  // Blocks of one head are neighbours, so that they find what others have read in the second-level cache.
  const auto tiles = static_cast<unsigned>(tiles_of_head<S>(shape));
  const HeadTile head(shape, blockIdx.x / tiles, blockIdx.x % tiles);
  const int first = head.tile * tile, my_first = static_cast<int>(threadIdx.x / 32) * 16;

  my.begin_queries(head, qkv, d_y, first, log_sum, delta, entropies, whole);
  RegisterTile<Dim> d_q;
  for (int first_key = 0; first_key <= first; first_key += tile) {
    __syncthreads();
    my.begin_keys(head, qkv, first_key, whole);
    wait_for_copies();
    __syncthreads();
    for (int key = 0; key < tile; key += piece) {
      if (first_key + key >= first + my_first + 16) break;  // hidden from all of the warp's queries
      RegisterTile<piece> s, d_p;
      mma(s, my.q.from(my_first), transposed(my.k.from(key)));      // S = Q K^T
      mma(d_p, my.d_y.from(my_first), transposed(my.v.from(key)));  // dP = dO V^T
      my.template differentiate<false, Gradients>(s, d_p, first, my_first, first_key + key, shape.length,
                                                  scale);
      const auto& d_s = d_p;
      mma(d_q, d_s, my.k.from(key));  // dQ += dS K
    }
  }
  store(my.d_q.from(my_first), d_q);

  // The last tile of keys was this block's own. The first tile of queries is, too.
  RegisterTile<Dim> d_k, d_v;
  for (int first_query = first; first_query < shape.length; first_query += tile) {
    if (first_query > first) {
      __syncthreads();
      my.begin_queries(head, qkv, d_y, first_query, log_sum, delta, entropies, whole);
      wait_for_copies();
      __syncthreads();
    }
    for (int query = 0; query < tile; query += piece) {
      if (first_query + query + piece <= first + my_first) continue;  // the warp's keys are hidden from these
      RegisterTile<piece> s, d_p;
      mma(s, my.k.from(my_first), transposed(my.q.from(query)));      // S^T = K Q^T
      mma(d_p, my.v.from(my_first), transposed(my.d_y.from(query)));  // dP^T = V dO^T
      my.template differentiate<true, Gradients>(s, d_p, first_query, query, first + my_first, shape.length,
                                                 scale);
      const auto &p = s, &d_s = d_p;
      mma(d_v, p, my.d_y.from(query));  // dV += P^T dO
      mma(d_k, d_s, my.q.from(query));  // dK += dS^T Q
    }
  }
  __syncthreads();  // all warps have read the keys and values
  store(my.k.from(my_first), d_k);
  store(my.v.from(my_first), d_v);
  rounding.begin();
  __syncthreads();
  store(head.rows(d_qkv, first), my.d_q, whole, rounding);
  store(head.rows(d_qkv, first, 1), my.k, whole, rounding);
  store(head.rows(d_qkv, first, 2), my.v, whole, rounding);
  rounding.end();
}

/// Calls body(n), where n() is the smallest head dimension of the kernels that is not below `head_dim`.
template <class Body>
void with_head_dim(int head_dim, const Body& body) {
  if (head_dim <= 16) return body(std::integral_constant<int, 16>());
  if (head_dim <= 32) return body(std::integral_constant<int, 32>());
  if (head_dim <= 64) return body(std::integral_constant<int, 64>());
  if (head_dim <= 128) return body(std::integral_constant<int, 128>());
  throw Error("attention on a GPU takes heads of up to 128 channels, not " + std::to_string(head_dim) +
              "; take more heads");
}

/// The number of blocks: one for each tile of each head, from the tile on that holds row `first`.
template <class S>
Index tile_blocks(AttentionShape shape, int first = 0) {
  return Index{shape.batch} * shape.heads * (tiles_of_head<S>(shape) - first / tile_rows<S>);
}

/// Whether all rows of all heads are made of whole packs.
template <class S, class... Matrices>
bool whole_heads(AttentionShape shape, Matrices... matrices) {
  bool whole = false;
  with_packs<pack_size<S>>([&](auto n) { whole = n() > 1; }, matrices...);
  return whole && shape.head_dim % pack_size<S> == 0;
}

/// The rounding of a matrix that a kernel stores tile by tile, in whole packs of 16 bytes if `whole`.
template <FactorKind Kind, CudaDevice D>
auto rounding_of_heads(D& device, Matrix<const typename D::Scalar> made, bool whole) {
  using S = typename D::Scalar;
  using Rounding = decltype(rounding_of<Kind, pack_size<S>, PackOrder::any>(device, made));
  return whole ? rounding_of<Kind, pack_size<S>, PackOrder::any>(device, made) : Rounding{};
}

inline float score_scale(AttentionShape shape) {
  return 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
}

/// D, a number for each query of each head.
template <CudaDevice D>
Index attention_workspace(D&, AttentionShape shape) {
  return shape.rows() * shape.heads;
}

template <CudaDevice D, class Entropies>
void attention_forward(D& device, AttentionShape shape, Matrix<const typename D::Scalar> qkv,
                       Matrix<typename D::Scalar> y, float* log_sum, float* /*workspace*/,
                       Entropies entropies) {
  using S = typename D::Scalar;
  const bool whole = whole_heads<S>(shape, qkv, y);
  auto rounding = rounding_of_heads<FactorKind::input>(device, Matrix<const S>(y), whole && shape.first == 0);
  with_head_dim(shape.head_dim, [&](auto dim) {
    device.stream().launch(attention_forward_kernel<dim(), S, Entropies, decltype(rounding)>,
                           tile_blocks<S>(shape, shape.first), tile_threads<S>,
                           forward_shared_bytes<S, dim()>, shape, qkv, y, log_sum, entropies,
                           score_scale(shape) * log2_e, whole, rounding);
  });
}

template <CudaDevice D, class Gradients>
void attention_backward(D& device, AttentionShape shape, Matrix<const typename D::Scalar> qkv,
                        Matrix<const typename D::Scalar> y, const float* log_sum,
                        Matrix<const typename D::Scalar> d_y, Matrix<typename D::Scalar> d_qkv,
                        float* workspace, Gradients entropies) {
  using S = typename D::Scalar;
  const bool whole = whole_heads<S>(shape, qkv, y, d_y, d_qkv);
  const Index blocks = tile_blocks<S>(shape);
  auto rounding = rounding_of_heads<FactorKind::gradient>(device, Matrix<const S>(d_qkv), whole);
  with_head_dim(shape.head_dim, [&](auto dim) {
    device.stream().launch(delta_kernel<dim(), S>, blocks, tile_threads<S>, delta_shared_bytes<S, dim()>,
                           shape, y, d_y, workspace, whole);
    device.stream().launch(attention_backward_kernel<dim(), S, Gradients, decltype(rounding)>, blocks,
                           tile_threads<S>, BackwardMemory<S, dim()>::bytes, shape, qkv, log_sum, workspace,
                           d_y, d_qkv, entropies, score_scale(shape), whole, rounding);
  });
}

}  // namespace lnfree::cuda
