#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include <lnfree/core/macros.hpp>

namespace lnfree {

/// A floating-point number in eight bits: a sign, an exponent and `Mantissa` bits of fraction. `Largest` is
/// the code of the largest number; the codes beyond it are NaN and, if there is room, infinity. A float is
/// rounded to nearest, ties to even, and saturates at the largest number, as on a GPU (cvt.rn.satfinite).
template <int Mantissa, int Bias, std::uint8_t Largest>
class Float8 {
  static constexpr int dropped = 23 - Mantissa;  // bits of a float's fraction
  static constexpr std::uint8_t nan = 0x7f;

 public:
  /// The largest number.
  static constexpr float max = std::bit_cast<float>((std::uint32_t{Largest} << dropped) +
                                                    (static_cast<std::uint32_t>(127 - Bias) << 23));

  Float8() = default;
  /// Rounds a float.
  LNFREE_HOST_DEVICE explicit Float8(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value), magnitude = bits & 0x7fffffffu;
    const auto size = std::bit_cast<float>(magnitude);
    constexpr auto smallest_normal = std::bit_cast<float>(static_cast<std::uint32_t>(128 - Bias) << 23);
    // Adding this to a subnormal number rounds it to a multiple of 2^(1 - Bias - Mantissa) in the lower bits.
    constexpr auto rounds = static_cast<std::uint32_t>(128 - Bias + dropped) << 23;
    std::uint32_t code = 0;
    if (size != size) {
      code = nan;
    } else if (size > max) {
      code = Largest;
    } else if (size >= smallest_normal) {
      const std::uint32_t half = (1u << (dropped - 1)) - 1 + (magnitude >> dropped & 1u);
      code = ((magnitude + half) >> dropped) - (static_cast<std::uint32_t>(127 - Bias) << Mantissa);
    } else {
      code = std::bit_cast<std::uint32_t>(size + std::bit_cast<float>(rounds)) - rounds;
    }
    bits_ = static_cast<std::uint8_t>(code | (bits >> 24 & 0x80u));
  }

  /// The same number in float.
  LNFREE_HOST_DEVICE operator float() const {
    const std::uint32_t code = bits_ & 0x7fu, sign = std::uint32_t{bits_ & 0x80u} << 24;
    if (code > Largest) {
      const bool infinite = Largest + 1 < nan && code == Largest + 1u;
      return std::bit_cast<float>(sign | (infinite ? 0x7f800000u : 0x7fc00000u));
    }
    // The bits are those of a float with a smaller exponent; multiplying by a power of two is exact.
    constexpr auto raise = std::bit_cast<float>(static_cast<std::uint32_t>(254 - Bias) << 23);
    return std::bit_cast<float>(sign | code << dropped) * raise;
  }

 private:
  std::uint8_t bits_;
};

/// Four bits of exponent, three of fraction: up to 448, NaN and no infinity. For weights and activations.
using E4M3 = Float8<3, 7, 0x7e>;
/// Five bits of exponent, two of fraction: up to 57,344. For gradients.
using E5M2 = Float8<2, 15, 0x7b>;

}  // namespace lnfree
