#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include <lnfree/core/bfloat16.hpp>
#include <lnfree/core/float8.hpp>
#include <lnfree/device/cuda/runtime.hpp>

namespace lnfree::cuda {

/// A float converted to S; to bfloat16, rounded to nearest, ties to even. A GPU has one instruction for what
/// BFloat16's constructor does in five. The numbers are the same; a NaN may have other bits.
template <class S>
__device__ S rounded(float value) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<S, BFloat16>) {
    std::uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return std::bit_cast<BFloat16>(bits);
  } else {
    return S(value);
  }
#else
  return S(value);
#endif
}

/// Two floats rounded to bfloat16, `first` in the lower half.
__device__ inline std::uint32_t rounded_pair(float first, float second) {
#if defined(__CUDA_ARCH__)
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  const auto bits = [](float value) { return std::uint32_t{std::bit_cast<std::uint16_t>(BFloat16(value))}; };
  return bits(first) | bits(second) << 16;
#endif
}

/// Two floats rounded to E4M3 or E5M2, `first` in the lower half. The GPUs that multiply such numbers have
/// an instruction for it.
template <class F>
__device__ std::uint16_t rounded_pair_of(float first, float second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  std::uint16_t pair;
  if constexpr (std::is_same_v<F, E4M3>) {
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(second), "f"(first));
  } else {
    asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(second), "f"(first));
  }
  return pair;
#else
  const auto bits = [](float value) { return unsigned{std::bit_cast<std::uint8_t>(F(value))}; };
  return static_cast<std::uint16_t>(bits(first) | bits(second) << 8);
#endif
}

}  // namespace lnfree::cuda
