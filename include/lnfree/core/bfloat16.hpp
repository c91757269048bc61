#pragma once

#include <bit>
#include <cstdint>

#include <lnfree/core/macros.hpp>

namespace lnfree {

/// A float without its lower 16 bits: the range of a float with 8 bits of precision. It converts to float, in
/// which arithmetic is done; conversion from float rounds to nearest, ties to even. The conversions are plain
/// integer operations, so that compilers vectorize loops over them. Use assignment in such loops: g++ 12 does
/// not vectorize the constructor.
class BFloat16 {
 public:
  BFloat16() = default;
  /// The nearest number in bf16.
  LNFREE_HOST_DEVICE explicit BFloat16(float value) { *this = value; }

  LNFREE_HOST_DEVICE BFloat16& operator=(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1u);
    // Rounding could carry a NaN into a number, so a NaN keeps its upper bits and one bit that is set.
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
