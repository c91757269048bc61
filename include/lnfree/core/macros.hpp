#pragma once

/// Marks scalar mathematics that every device compiles for itself: on a GPU compiler a function that runs on
/// both sides, elsewhere one that becomes part of its caller even where that has grown large, since a loop
/// that calls a function is no vector code. Whether this is a GPU compiler says LNFREE_GPU_COMPILER.
#if defined(__CUDACC__)
#define LNFREE_HOST_DEVICE __host__ __device__
#define LNFREE_GPU_COMPILER 1
#else
#define LNFREE_HOST_DEVICE [[gnu::always_inline]]
#define LNFREE_GPU_COMPILER 0
#endif
