#pragma once

#include <cmath>

#include <lnfree/backend/cuda/runtime.hpp>

namespace lnfree::cuda {

inline constexpr float log2_e = 1.44269504f, ln_2 = 0.693147181f;

/// 2^x, as fast as the precision S allows: what a GPU has an instruction for.
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
