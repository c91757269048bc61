#pragma once

/// Marks scalar mathematics that every device compiles for itself: on a GPU compiler a function that runs on
/// both sides, elsewhere nothing. Whether this is one says LNFREE_GPU_COMPILER.
#if defined(__CUDACC__)
#define LNFREE_HOST_DEVICE __host__ __device__
#define LNFREE_GPU_COMPILER 1
#else
#define LNFREE_HOST_DEVICE
#define LNFREE_GPU_COMPILER 0
#endif
