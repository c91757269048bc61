#pragma once

#include <cuda_runtime.h>

#include <lnfree/core/error.hpp>

namespace lnfree::cuda {

/// Throws Error when a call of the runtime failed.
inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw Error(what);
}

}  // namespace lnfree::cuda
