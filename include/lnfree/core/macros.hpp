#pragma once

/// Marks scalar mathematics that every device compiles for itself: on a GPU compiler a function that runs on
/// both sides, elsewhere nothing.
#if defined(__CUDACC__)
#define LNFREE_HOST_DEVICE __host__ __device__
#else
#define LNFREE_HOST_DEVICE
#endif
