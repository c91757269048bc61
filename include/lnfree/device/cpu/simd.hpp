#pragma once

#include <cstdint>

#include <lnfree/core/bfloat16.hpp>

/// Vector types shared by the Cpu's kernels.
namespace lnfree::cpu {

/// The widest float vector of the target, and how many floats it holds.
#if defined(__AVX512F__)
inline constexpr int vector_width = 16;
#elif defined(__AVX__)
inline constexpr int vector_width = 8;
#else
inline constexpr int vector_width = 4;
#endif
using Vector
    [[gnu::vector_size(vector_width * sizeof(float)), gnu::aligned(alignof(float)), gnu::may_alias]] = float;

inline Vector load(const float* from) {
  return *reinterpret_cast<const Vector*>(from);
}
inline Vector load(const BFloat16* from) {
  using Bits16 [[gnu::vector_size(vector_width * 2), gnu::aligned(alignof(BFloat16)), gnu::may_alias]] =
      std::uint16_t;
  using Bits32 [[gnu::vector_size(vector_width * 4)]] = std::uint32_t;
  return reinterpret_cast<Vector>(__builtin_convertvector(*reinterpret_cast<const Bits16*>(from), Bits32)
                                  << 16);
}
inline void store(float* to, Vector vector) {
  *reinterpret_cast<Vector*>(to) = vector;
}

}  // namespace lnfree::cpu
