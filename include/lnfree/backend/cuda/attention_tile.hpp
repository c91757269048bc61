#pragma once

#include <cfloat>
#include <cmath>

#include <lnfree/backend/cuda/async_copy.hpp>
#include <lnfree/backend/cuda/packs.hpp>
#include <lnfree/backend/cuda/runtime.hpp>
#include <lnfree/backend/primitives.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/core/tensor.hpp>

/// Pieces of one head's queries, keys and values in a block's shared memory.
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
inline constexpr int tile_size = tile_rows<S> * tile_stride<S, Cols>;

/// Of the queries, or of the keys.
template <class S>
LNFREE_HOST_DEVICE inline unsigned tiles_of_head(AttentionShape shape) {
  return static_cast<unsigned>((shape.length + tile_rows<S> - 1) / tile_rows<S>);
}

/// Of the queries that a forward pass computes, those of whole tiles.
template <class S>
LNFREE_HOST_DEVICE inline unsigned query_tiles_of_head(AttentionShape shape) {
  return tiles_of_head<S>(shape) - static_cast<unsigned>(shape.first / tile_rows<S>);
}

/// One head of one sequence, and the tile of its queries or keys that a block is about.
struct HeadTile {
  AttentionShape shape;
  Index b, h;
  int tile;

  /// `head` counts those of all sequences.
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

/// Calls body(i, j, place) for the packs of a tile in shared memory that are this thread's: row, first
/// column.
template <int Cols, class S, class Body>
__device__ void for_my_packs(S* tile, const Body& body) {
  constexpr int packs = Cols / pack_size<S>, mine = tile_rows<S> * packs / attention_threads<S>;
#pragma unroll
  for (int n = 0; n < mine; ++n) {
    const int at = static_cast<int>(threadIdx.x) + n * attention_threads<S>;
    const int i = at / packs, j = at % packs * pack_size<S>;
    body(i, j, tile + i * tile_stride<S, Cols> + j);
  }
}

/// Begins to copy a tile to shared memory, zeros where the matrix ends; wait_for_copies() waits for it.
/// `whole`: rows are whole packs.
template <int Cols, class S>
__device__ void begin_load(S* to, Matrix<const S> from, bool whole) {
  if (whole) {
    for_my_packs<Cols>(to, [&](int i, int j, S* place) {
      const bool there = i < from.rows && j < from.cols;
      begin_copy(place, there ? from.row(i) + j : from.data, there);
    });
    return;
  }
  for_my_packs<Cols>(to, [&](int i, int j, S* place) {
    for (int e = 0; e < pack_size<S>; ++e) {
      place[e] = i < from.rows && j + e < from.cols ? from.row(i)[j + e] : S(0.0f);
    }
  });
}

/// Whether what this thread has copied of a tile is all finite.
template <int Cols, class S>
__device__ bool my_packs_are_finite(S* tile) {
  bool finite = true;
  for_my_packs<Cols>(tile, [&](int, int, const S* place) {
    const Floats<pack_size<S>> numbers = load<pack_size<S>>(place);
#pragma unroll
    for (int e = 0; e < pack_size<S>; ++e) finite = finite && fabsf(numbers[e]) <= FLT_MAX;
  });
  return finite;
}

/// Copies a tile from shared memory, as far as the matrix goes.
template <int Cols, class S>
__device__ void store_tile(Matrix<S> to, S* from, bool whole) {
  for_my_packs<Cols>(from, [&](int i, int j, const S* place) {
    if (i >= to.rows) return;
    if (whole && j < to.cols) {
      store(to.row(i) + j, *reinterpret_cast<const Pack<pack_size<S>, S>*>(place));
    } else {
      for (int e = 0; e < pack_size<S>; ++e) {
        if (j + e < to.cols) to.row(i)[j + e] = place[e];
      }
    }
  });
}

}  // namespace lnfree::cuda
