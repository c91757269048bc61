#pragma once

#include <cstdint>

#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/cuda/packs.hpp>
#include <lnfree/backend/cuda/reduce.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cuda {

template <class S>
struct Embed {
  int length;
  const std::int32_t* tokens;
  Matrix<const S> token_table, position_table;
  Matrix<S> x;

  template <int N>
  __device__ void at(Index i, Index j) const {
    Floats<N> sum = load<N>(token_table.row(tokens[i]) + j);
    if (position_table.rows > 0) {
      const Floats<N> position = load<N>(position_table.row(i % length) + j);
#pragma unroll
      for (int e = 0; e < N; ++e) sum[e] += position[e];
    }
    store<N>(x.row(i) + j, sum);
  }
};

template <CudaDevice D>
void embedding_forward(D& device, BatchShape shape, const std::int32_t* tokens,
                       Matrix<const typename D::Scalar> token_table,
                       Matrix<const typename D::Scalar> position_table, Matrix<typename D::Scalar> x) {
  using S = typename D::Scalar;
  with_packs<pack_size<S>>(
      [&](auto n) {
        for_each_pack<n()>(device.stream(), shape.rows(), x.cols,
                           Embed<S>{shape.length, tokens, token_table, position_table, x});
      },
      token_table, position_table, x);
}

/// The gradient of the position table: each row sums over the sequences, in order.
template <class S>
struct PositionGradient {
  BatchShape shape;
  Matrix<const S> d_x;
  Matrix<float> d_table;

  template <int N>
  __device__ void at(Index t, Index j) const {
    Floats<N> sum = load<N>(d_table.row(t) + j);
    for (int b = 0; b < shape.batch; ++b) {
      const Floats<N> d = load<N>(d_x.row(static_cast<Index>(b) * shape.length + t) + j);
#pragma unroll
      for (int e = 0; e < N; ++e) sum[e] += d[e];
    }
    store<N>(d_table.row(t) + j, sum);
  }
};

inline constexpr int token_threads = 128, tokens_at_once = 4 * token_threads;

/// Which of the four tokens from `at` on are `token`: bit e for the e-th.
__device__ inline unsigned occurrences(const std::int32_t* tokens, int at, int count, std::int32_t token) {
  unsigned bits = 0;
  if (at + 4 <= count) {
    const auto four = *reinterpret_cast<const Pack<4, std::int32_t>*>(tokens + at);
#pragma unroll
    for (int e = 0; e < 4; ++e) bits |= static_cast<unsigned>(four.values[e] == token) << e;
  } else {
    for (int e = 0; at + e < count; ++e) bits |= static_cast<unsigned>(tokens[at + e] == token) << e;
  }
  return bits;
}

/// One block for each position of the batch. The block at a token's first occurrence adds up the gradients of
/// all its occurrences, in order; the other blocks return at once.
template <int N, class S>
__global__ void __launch_bounds__(token_threads)
    token_gradient_kernel(int count, const std::int32_t* tokens, Matrix<const S> d_x, Matrix<float> d_table) {
  const int first = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const std::int32_t token = tokens[first];
  unsigned seen = 0;
#pragma unroll 4
  for (int at = 4 * thread; at < first; at += tokens_at_once) seen |= occurrences(tokens, at, first, token);
  if (__syncthreads_or(seen != 0)) return;
  int* const matches = shared_memory<int>();     // the positions of this token, out of tokens_at_once
  int* const counts = matches + tokens_at_once;  // how many each warp found
  float* const to = d_table.row(token);
  for (int begin = first / 4 * 4; begin < count; begin += tokens_at_once) {
    const int mine = begin + 4 * thread;
    const unsigned bits = occurrences(tokens, mine, count, token);
    if (!__syncthreads_or(bits != 0)) continue;
    const unsigned below = (1u << thread % 32) - 1;
    int before_mine = 0, of_warp = 0, all = 0;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const unsigned lanes = __ballot_sync(whole_warp, (bits >> e & 1) != 0);
      before_mine += __popc(lanes & below);
      of_warp += __popc(lanes);
    }
    if (thread % 32 == 0) counts[thread / 32] = of_warp;
    __syncthreads();
    for (int warp = 0; warp < token_threads / 32; ++warp) {
      if (warp < thread / 32) before_mine += counts[warp];
      all += counts[warp];
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if ((bits >> e & 1) != 0) matches[before_mine++] = mine + e;
    }
    __syncthreads();
    for (Index j = static_cast<Index>(thread) * N; j < d_x.cols; j += token_threads * N) {
      Floats<N> sum = load<N>(to + j);
#pragma unroll 4  // several rows are fetched at the same time
      for (int match = 0; match < all; ++match) {
        const Floats<N> d = load<N>(d_x.row(matches[match]) + j);
#pragma unroll
        for (int e = 0; e < N; ++e) sum[e] += d[e];
      }
      store<N>(to + j, sum);
    }
    __syncthreads();
  }
}

template <CudaDevice D>
void embedding_backward(D& device, BatchShape shape, const std::int32_t* tokens,
                        Matrix<const typename D::Scalar> d_x, Matrix<float> d_token_table,
                        Matrix<float> d_position_table) {
  using S = typename D::Scalar;
  with_packs<pack_size<S>>(
      [&](auto n) {
        device.stream().launch(token_gradient_kernel<n(), S>, shape.rows(), token_threads,
                               (tokens_at_once + token_threads / 32) * sizeof(int),
                               static_cast<int>(shape.rows()), tokens, d_x, d_token_table);
        if (d_position_table.rows == 0) return;
        for_each_pack<n()>(device.stream(), shape.length, d_x.cols,
                           PositionGradient<S>{shape, d_x, d_position_table});
      },
      d_x, d_token_table, d_position_table);
}

}  // namespace lnfree::cuda
