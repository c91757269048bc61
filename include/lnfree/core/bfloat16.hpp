#pragma once

#include <bit>
#include <cstdint>

#include <lnfree/core/macros.hpp>

namespace lnfree {

/// A float without its lower 16 bits: the range of a float with 8 bits of precision. Arithmetic is done in
/// float, which it converts to; from a float it is rounded to nearest, ties to even. Plain integer
/// operations, so that compilers turn loops over conversions into vector code: over assignments, that is;
/// g++ 12 makes none of a constructor.
class BFloat16 {
 public:
  BFloat16() = default;
  /// The nearest number in bf16.
  LNFREE_HOST_DEVICE explicit BFloat16(float value) { *this = value; }

  LNFREE_HOST_DEVICE BFloat16& operator=(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1u);
    // Rounding could carry a NaN into another number: it keeps its upper bits and a set one.
    bits_ = static_cast<std::uint16_t>((value != value ? bits | 0x400000u : rounded) >> 16);
    return *this;
  }
  LNFREE_HOST_DEVICE BFloat16& operator+=(float value) { return *this = *this + value; }
  LNFREE_HOST_DEVICE BFloat16& operator-=(float value) { return *this = *this - value; }
  LNFREE_HOST_DEVICE BFloat16& operator*=(float value) { return *this = *this * value; }

  /// The same number in float.
  LNFREE_HOST_DEVICE operator float() const { return std::bit_cast<float>(std::uint32_t{bits_} << 16); }

 private:
  std::uint16_t bits_;
};

}  // namespace lnfree
