#pragma once

#include <cmath>

#include <lnfree/backend/cuda/runtime.hpp>

namespace lnfree::cuda {

inline constexpr float log2_e = 1.44269504f, ln_2 = 0.693147181f;

/// 2^x: for a 16-bit S by the GPU's approximate instruction, which is exact enough there.
template <class S>
__device__ float fast_exp2(float x) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(S) == 2) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
  }
#endif
  return exp2f(x);
}

}  // namespace lnfree::cuda
