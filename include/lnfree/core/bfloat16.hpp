#pragma once

#include <bit>
#include <cstdint>

#include <lnfree/core/macros.hpp>

namespace lnfree {

/// A float rounded to the nearest bfloat16, ties to even, as its bits. A GPU has an instruction for it.
LNFREE_HOST_DEVICE inline std::uint16_t rounded_to_bfloat16(float value) {
#if defined(__CUDA_ARCH__)
  std::uint16_t result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result) : "f"(value));
  return result;
#else
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1u);
  // Rounding could carry a NaN into another number: it keeps its upper bits and a set one.
  return static_cast<std::uint16_t>((value != value ? bits | 0x400000u : rounded) >> 16);
#endif
}

/// A float without its lower 16 bits: the range of a float with 8 bits of precision. Arithmetic is done in
/// float, which it converts to; from a float it is rounded to nearest, ties to even. Plain integer
/// operations, except on a GPU, so that compilers turn loops over conversions into vector code: over
/// assignments, that is; g++ 12 makes none of a constructor.
class BFloat16 {
 public:
  BFloat16() = default;
  LNFREE_HOST_DEVICE explicit BFloat16(float value) { *this = value; }

  LNFREE_HOST_DEVICE BFloat16& operator=(float value) {
    bits_ = rounded_to_bfloat16(value);
    return *this;
  }
  LNFREE_HOST_DEVICE BFloat16& operator+=(float value) { return *this = *this + value; }
  LNFREE_HOST_DEVICE BFloat16& operator-=(float value) { return *this = *this - value; }
  LNFREE_HOST_DEVICE BFloat16& operator*=(float value) { return *this = *this * value; }

  LNFREE_HOST_DEVICE operator float() const { return std::bit_cast<float>(std::uint32_t{bits_} << 16); }

 private:
  std::uint16_t bits_;
};

}  // namespace lnfree
