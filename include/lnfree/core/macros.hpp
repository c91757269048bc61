#pragma once

#if !defined(__CUDACC__) && __cplusplus < 202002L
#error "lnfree needs C++20; compile with -std=c++20, or link the CMake target lnfree::lnfree"
#endif

// These options make losses and entropies silently wrong: core/math.hpp rounds by adding and subtracting a
// large number, and divergence is detected as NaN.
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || \
    (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0)
#error "lnfree computes wrong losses under -ffast-math, -Ofast and their parts; add -fno-fast-math"
#endif
#if defined(__FLT_EVAL_METHOD__)
#if __FLT_EVAL_METHOD__ < 0 || __FLT_EVAL_METHOD__ == 1 || __FLT_EVAL_METHOD__ == 2
#error "lnfree computes wrong losses where sums of floats keep more digits; add -mfpmath=sse -msse2"
#endif
#endif

/// Marks scalar mathematics that every device compiles for itself. A GPU compiler makes it a host and device
/// function. Other compilers always inline it, however large the caller, since a loop that calls a function
/// is not vectorized. LNFREE_INLINE_LAMBDA does the same for a lambda. LNFREE_GPU_COMPILER tells whether this
/// is a GPU compiler.
#if defined(__CUDACC__)
#define LNFREE_HOST_DEVICE __host__ __device__
#define LNFREE_INLINE_LAMBDA
#define LNFREE_GPU_COMPILER 1
#else
#define LNFREE_HOST_DEVICE [[gnu::always_inline]]
#define LNFREE_INLINE_LAMBDA __attribute__((always_inline))
#define LNFREE_GPU_COMPILER 0
#endif
