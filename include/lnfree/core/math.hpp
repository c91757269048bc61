#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

#include <lnfree/core/macros.hpp>

/// Elementary functions without branches or calls, so that a compiler turns a loop over them into vector
/// code. In double they are the standard library's.
namespace lnfree::math {

/// x, or `low` < 0 where x is less; NaN stays NaN.
LNFREE_HOST_DEVICE inline float at_least(float x, float low) {
#if defined(__CUDA_ARCH__)
  asm("max.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(low));
  return x;
#else
  // As integers: g++ makes vector code of their minimum, where with choices between floats it may pull the
  // whole computation into a branch, which ends the vectors. A float's bits, read as an unsigned number, grow
  // away from 0, and NaNs come last of each sign. Counted from the first NaN of one sign, that sign's NaNs
  // come first and its other numbers last, so that a minimum meets only those beyond the bound. It is a
  // statement of its own: within the sum below g++ 12 would make a choice of it again.
  constexpr std::uint32_t negative_nan = 0xff800001u;
  const std::uint32_t bound = std::bit_cast<std::uint32_t>(low) - negative_nan;
  std::uint32_t bits = std::bit_cast<std::uint32_t>(x) - negative_nan;
  bits = bits < bound ? bits : bound;
  return std::bit_cast<float>(bits + negative_nan);
#endif
}

/// x, or `high` > 0 where x is more; NaN stays NaN.
LNFREE_HOST_DEVICE inline float at_most(float x, float high) {
#if defined(__CUDA_ARCH__)
  asm("min.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(high));
  return x;
#else
  constexpr std::uint32_t positive_nan = 0x7f800001u;  // as above
  const std::uint32_t bound = std::bit_cast<std::uint32_t>(high) - positive_nan;
  std::uint32_t bits = std::bit_cast<std::uint32_t>(x) - positive_nan;
  bits = bits < bound ? bits : bound;
  return std::bit_cast<float>(bits + positive_nan);
#endif
}

/// x within [low, high], low < 0 < high; NaN stays NaN.
LNFREE_HOST_DEVICE inline float clamp(float x, float low, float high) {
  return at_most(at_least(x, low), high);
}

/// x / y for y in [1, 2^126]. A GPU rounds it twice: its division takes nine instructions, this takes two.
LNFREE_HOST_DEVICE inline float quotient(float x, float y) {
#if defined(__CUDA_ARCH__)
  return __fdividef(x, y);
#else
  return x / y;
#endif
}

/// e^x. In float: relative error below 2.4e-7 for x in [-87, 88]; smaller x give 1e-38 or less, larger ones
/// 1e38 or more, NaN gives NaN.
LNFREE_HOST_DEVICE inline double exp(double x) {
  return std::exp(x);
}
LNFREE_HOST_DEVICE inline float exp(float x) {
#if defined(__CUDA_ARCH__)
  return expf(x);  // of which a GPU has the better half in an instruction
#else
  x = clamp(x, -87.0f, 88.0f);
  // Adding 1.5 * 2^23 rounds x / ln 2 to an integer n, which is left in the low bits of the sum.
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 0.00829030617f;
  p = p * r + 0.0418979754f;
  p = p * r + 0.166676366f;
  p = p * r + 0.499991492f;
  p = p * r + 0.999999707f;
  p = p * r + 1.0f;
  // 2^n as a factor, not as an addition to p's exponent, which would turn some NaNs into numbers.
  const std::uint32_t power = (std::bit_cast<std::uint32_t>(shifted) << 23) + 0x3f800000u;
  return p * std::bit_cast<float>(power);
#endif
}

/// 2^x for x <= 127. In float: relative error below 2.4e-7 for x >= -126, smaller x give 2e-38 or less, NaN
/// gives NaN, and beyond 127 it may be anything. Loops over it take three quarters of the time of those over
/// exp.
LNFREE_HOST_DEVICE inline double exp2(double x) {
  return std::exp2(x);
}
LNFREE_HOST_DEVICE inline float exp2(float x) {
#if defined(__CUDA_ARCH__)
  return exp2f(x);
#else
  x = at_least(x, -126.0f);
  const float shifted = x + 12582912.0f;  // as in exp
  const float r = x - (shifted - 12582912.0f);
  float p = 0.0013264727f;
  p = p * r + 0.009671513f;
  p = p * r + 0.055507336f;
  p = p * r + 0.24022242f;
  p = p * r + 0.69314698f;
  p = p * r + 1.0f;
  const std::uint32_t power = (std::bit_cast<std::uint32_t>(shifted) << 23) + 0x3f800000u;
  return p * std::bit_cast<float>(power);
#endif
}

/// The square root, correctly rounded.
LNFREE_HOST_DEVICE inline double sqrt(double x) {
  return std::sqrt(x);
}
LNFREE_HOST_DEVICE inline float sqrt(float x) {
  return std::sqrt(x);
}

/// The error function. In float: a rational function of x^2 on |x| < 3.925, beyond which erf is 1 to float's
/// precision; absolute error below 5e-7, and never beyond 1.
LNFREE_HOST_DEVICE inline double erf(double x) {
  return std::erf(x);
}
LNFREE_HOST_DEVICE inline float erf(float x) {
  // x^2 as its bits, which grow with it. A NaN may become a number here, but not in the product below.
  const float square = x * x, most = 3.925f * 3.925f;
  const std::int32_t bits = std::bit_cast<std::int32_t>(square),
                     most_bits = std::bit_cast<std::int32_t>(most);
  const float t = std::bit_cast<float>(bits < most_bits ? bits : most_bits);
  float p = 2.0785998853555084e-06f;
  p = p * t + 2.8415724316100836e-04f;
  p = p * t + 3.6861413813914300e-03f;
  p = p * t + 5.2503450169725270e-02f;
  p = p * t + 1.8840851160977290e-01f;
  p = p * t + 1.1283791530400213e+00f;
  float q = 3.8351058628663894e-05f;
  q = q * t + 1.1453292226456986e-03f;
  q = q * t + 1.4807888806571275e-02f;
  q = q * t + 1.1330077024910230e-01f;
  q = q * t + 5.0030561181674770e-01f;
  q = q * t + 1.0f;
  return clamp(quotient(x * p, q), -1.0f, 1.0f);  // where the square is capped the ratio grows with x
}

/// The hyperbolic tangent. In float through e^(-2 |x|): absolute error below 2e-7.
LNFREE_HOST_DEVICE inline double tanh(double x) {
  return std::tanh(x);
}
LNFREE_HOST_DEVICE inline float tanh(float x) {
  const float e = exp2(-2.0f * std::numbers::log2e_v<float> * (x < 0.0f ? -x : x));
  const float y = quotient(1.0f - e, 1.0f + e);
  return x < 0.0f ? -y : y;
}

}  // namespace lnfree::math
