#pragma once

#if !defined(__CUDACC__) && __cplusplus < 202002L
#error "lnfree needs C++20; compile with -std=c++20, or link the CMake target lnfree::lnfree"
#endif

// Such arithmetic makes losses and entropies wrong without a word: core/math.hpp rounds by adding a large
// number and taking it away again, and a divergence shows as NaN.
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || \
    (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0)
#error "lnfree computes wrong losses under -ffast-math, -Ofast and their parts; add -fno-fast-math"
#endif
#if defined(__FLT_EVAL_METHOD__)
#if __FLT_EVAL_METHOD__ < 0 || __FLT_EVAL_METHOD__ == 1 || __FLT_EVAL_METHOD__ == 2
#error "lnfree computes wrong losses where sums of floats keep more digits; add -mfpmath=sse -msse2"
#endif
#endif

/// Marks scalar mathematics that every device compiles for itself: on a GPU compiler a function that runs on
/// both sides, elsewhere one that becomes part of its caller even where that has grown large, since a loop
/// that calls a function is no vector code. LNFREE_INLINE_LAMBDA does that for a lambda. Whether this is a
/// GPU compiler says LNFREE_GPU_COMPILER.
#if defined(__CUDACC__)
#define LNFREE_HOST_DEVICE __host__ __device__
#define LNFREE_INLINE_LAMBDA
#define LNFREE_GPU_COMPILER 1
#else
#define LNFREE_HOST_DEVICE [[gnu::always_inline]]
#define LNFREE_INLINE_LAMBDA __attribute__((always_inline))
#define LNFREE_GPU_COMPILER 0
#endif
