#pragma once

#include <array>
#include <cstddef>
#include <tuple>
#include <utility>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/simd.hpp>

namespace lnfree::cpu {

/// The sum of a vector's lanes: its halves are added until two lanes are left.
template <int Lanes = vector_width, class V>
inline float sum_of_lanes(V vector) {
  if constexpr (Lanes == 2) {
    return vector[0] + vector[1];
  } else {
    return [&]<int... Lane>(std::integer_sequence<int, Lane...>) {
      return sum_of_lanes<Lanes / 2>(__builtin_shufflevector(vector, vector, Lane...) +
                                     __builtin_shufflevector(vector, vector, (Lane + Lanes / 2)...));
    }(std::make_integer_sequence<int, Lanes / 2>{});
  }
}

/// The sums over j in [0, count) of the numbers in the array that term(j) returns. Four vectors of partial
/// sums for each, so that an addition does not wait for the previous one.
template <class Term>
inline auto row_sums(Index count, const Term& term) {
  constexpr int vectors = 4, lanes = vectors * vector_width;
  using Terms = decltype(term(Index{}));
  constexpr std::size_t numbers = std::tuple_size_v<Terms>;
  float partial[numbers][lanes];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < numbers * vectors; ++i) store(&partial[0][0] + i * vector_width, Vector{});
  const auto add = [&](Index j, int lane) {
    const Terms terms = term(j);
    // Not a loop, because clang vectorizes only innermost loops.
    [&]<std::size_t... N>(std::index_sequence<N...>) {
      ((partial[N][lane] += terms[N]), ...);
    }(std::make_index_sequence<numbers>{});
  };
  Index j = 0;
  for (; j + lanes <= count; j += lanes) {
#pragma omp simd
    for (int lane = 0; lane < lanes; ++lane) add(j + lane, lane);
  }
  const int rest = static_cast<int>(count - j);
#pragma omp simd
  for (int lane = 0; lane < rest; ++lane) add(j + lane, lane);
  Terms sums;
  for (std::size_t n = 0; n < numbers; ++n) {
    const float* const of = partial[n];
    sums[n] = sum_of_lanes((load(of) + load(of + vector_width)) +
                           (load(of + 2 * vector_width) + load(of + 3 * vector_width)));
  }
  return sums;
}

}  // namespace lnfree::cpu
