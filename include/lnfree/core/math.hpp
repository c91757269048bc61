#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

#include <lnfree/core/dual.hpp>
#include <lnfree/core/macros.hpp>

/// Elementary functions without branches or calls, so that compilers vectorize loops over them. In double
/// they are the standard library's.
namespace lnfree::math {

/// x, or `low` < 0 where x is less; NaN stays NaN.
LNFREE_HOST_DEVICE inline float at_least(float x, float low) {
#if defined(__CUDA_ARCH__)
  asm("max.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(low));
  return x;
#else
  // Compared as integers, because g++ vectorizes their minimum, while for a choice between floats it may put
  // the whole computation into a branch, which prevents vectorization. Read as unsigned integers, the bits of
  // floats grow with the distance from 0, and NaNs come last for each sign. Offset by the first NaN of one
  // sign, that sign's NaNs come first and its other numbers last, so the minimum changes only numbers beyond
  // the bound. The minimum is a separate statement, because within the sum below g++ 12 turns it back into a
  // branch.
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

/// x / y for y in [1, 2^126]. A GPU rounds it twice, in two instructions instead of the nine of a division.
LNFREE_HOST_DEVICE inline float quotient(float x, float y) {
#if defined(__CUDA_ARCH__)
  return __fdividef(x, y);
#else
  return x / y;
#endif
}

/// c_n x^n + ... + c_0, with the coefficients given from the highest down.
template <class... Coefficients>
LNFREE_HOST_DEVICE inline float polynomial(float x, float highest, Coefficients... lower) {
  float p = highest;
  ((p = p * x + lower), ...);
  return p;
}

/// Adding this rounds a number below 2^22: the nearest integer is then in the low bits of the sum.
inline constexpr float rounder = 12582912.0f;  // 1.5 * 2^23

/// sum - rounder: the integer that the sum was rounded to. It keeps clang from merging the two operations
/// under options, like -funsafe-math-optimizations, that define no macro by which macros.hpp could refuse
/// them.
LNFREE_HOST_DEVICE inline float without_rounder(float sum) {
#if defined(__clang__)
#pragma clang fp reassociate(off)
#endif
  return sum - rounder;
}

#if defined(__GNUC__) && !defined(__clang__) && !LNFREE_GPU_COMPILER
[[gnu::error("lnfree computes wrong losses where #pragma GCC optimize allows fast math; remove it")]] void
refuse_fast_math();
#endif

/// Makes g++ refuse a source in which a pragma enables what macros.hpp refuses as an option; pragmas do not
/// change macros. The comparison is a constant only where the rounding is optimized away.
LNFREE_HOST_DEVICE inline void require_exact_rounding() {
#if defined(__GNUC__) && !defined(__clang__) && !LNFREE_GPU_COMPILER
  volatile float unknown = 0.25f;
  const float x = unknown, rounded = (x + rounder) - rounder;
  if (__builtin_constant_p(__builtin_bit_cast(std::uint32_t, rounded) - __builtin_bit_cast(std::uint32_t, x)))
    refuse_fast_math();
#endif
}

/// Whether x is neither NaN nor infinite. Tests the bits, since pragmas can make std::isfinite always true.
LNFREE_HOST_DEVICE inline bool is_finite(float x) {
  return (std::bit_cast<std::uint32_t>(x) & 0x7f800000u) != 0x7f800000u;
}
/// Whether x is neither infinite nor NaN; -ffinite-math-only would break it, and is refused.
LNFREE_HOST_DEVICE inline bool is_finite(double x) {
  return (std::bit_cast<std::uint64_t>(x) & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}

/// 2^n for the integer n that `rounder` left in the low bits of `sum`, -127 < n < 128.
LNFREE_HOST_DEVICE inline float power_of_two(float sum) {
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(sum) << 23) + 0x3f800000u);
}

/// e^x. In float: relative error below 2.4e-7 for x in [-87, 88]; smaller x give 1e-38 or less, larger ones
/// 1e38 or more, NaN gives NaN.
LNFREE_HOST_DEVICE inline double exp(double x) {
  return std::exp(x);
}
/// The exponential function.
LNFREE_HOST_DEVICE inline float exp(float x) {
#if defined(__CUDA_ARCH__)
  return expf(x);  // a GPU has an instruction for most of it
#else
  x = clamp(x, -87.0f, 88.0f);
  const float sum = x * 1.44269504f + rounder, n = without_rounder(sum);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // x - n ln 2
  // 2^n is a factor; adding n to the exponent bits would turn some NaNs into numbers.
  return polynomial(r, 0.00829030617f, 0.0418979754f, 0.166676366f, 0.499991492f, 0.999999707f, 1.0f) *
         power_of_two(sum);
#endif
}

/// 2^x for x <= 127. In float: relative error below 2.4e-7 for x >= -126, smaller x give 2e-38 or less, NaN
/// gives NaN, and beyond 127 it may be anything. It takes three quarters of the time of exp.
LNFREE_HOST_DEVICE inline double exp2(double x) {
  return std::exp2(x);
}
/// 2 to the power of x.
LNFREE_HOST_DEVICE inline float exp2(float x) {
#if defined(__CUDA_ARCH__)
  return exp2f(x);
#else
  x = at_least(x, -126.0f);
  const float sum = x + rounder, r = x - without_rounder(sum);
  return polynomial(r, 0.0013264727f, 0.009671513f, 0.055507336f, 0.24022242f, 0.69314698f, 1.0f) *
         power_of_two(sum);
#endif
}

/// The square root, correctly rounded.
LNFREE_HOST_DEVICE inline double sqrt(double x) {
  return std::sqrt(x);
}
/// The square root.
LNFREE_HOST_DEVICE inline float sqrt(float x) {
  return std::sqrt(x);
}

/// The error function. In float: a rational function of x^2 on |x| < 3.925, beyond which erf is 1 to float's
/// precision; absolute error below 5e-7, and never beyond 1.
LNFREE_HOST_DEVICE inline double erf(double x) {
  return std::erf(x);
}
/// The error function.
LNFREE_HOST_DEVICE inline float erf(float x) {
  // x^2 is capped by its bits, which grow with it. A NaN may become a number here, but not in the product
  // below.
  const float square = x * x, max_square = 3.925f * 3.925f;
  const std::int32_t bits = std::bit_cast<std::int32_t>(square),
                     max_bits = std::bit_cast<std::int32_t>(max_square);
  const float t = std::bit_cast<float>(bits < max_bits ? bits : max_bits);
  const float p = polynomial(t, 2.0785998853555084e-06f, 2.8415724316100836e-04f, 3.6861413813914300e-03f,
                             5.2503450169725270e-02f, 1.8840851160977290e-01f, 1.1283791530400213e+00f);
  const float q = polynomial(t, 3.8351058628663894e-05f, 1.1453292226456986e-03f, 1.4807888806571275e-02f,
                             1.1330077024910230e-01f, 5.0030561181674770e-01f, 1.0f);
  return clamp(quotient(x * p, q), -1.0f,
               1.0f);  // the ratio grows where the square is capped
}

/// The hyperbolic tangent. In float through e^(-2 |x|): absolute error below 2e-7.
LNFREE_HOST_DEVICE inline double tanh(double x) {
  return std::tanh(x);
}
/// The hyperbolic tangent.
LNFREE_HOST_DEVICE inline float tanh(float x) {
  const float e = exp2(-2.0f * std::numbers::log2e_v<float> * (x < 0.0f ? -x : x));
  const float y = quotient(1.0f - e, 1.0f + e);
  return x < 0.0f ? -y : y;
}

// The same for dual numbers.

/// The exponential function, with its derivative.
template <class T>
LNFREE_HOST_DEVICE inline Dual<T> exp(Dual<T> x) {
  const T y = exp(x.value);
  return {y, y * x.slope};
}
/// The square root, with its derivative.
template <class T>
LNFREE_HOST_DEVICE inline Dual<T> sqrt(Dual<T> x) {
  const T y = sqrt(x.value);
  return {y, x.slope / (T(2) * y)};
}
/// The error function, with its derivative.
template <class T>
LNFREE_HOST_DEVICE inline Dual<T> erf(Dual<T> x) {
  return {erf(x.value), T(2) * std::numbers::inv_sqrtpi_v<T> * exp(-x.value * x.value) * x.slope};
}
/// The hyperbolic tangent, with its derivative.
template <class T>
LNFREE_HOST_DEVICE inline Dual<T> tanh(Dual<T> x) {
  const T y = tanh(x.value);
  return {y, (T(1) - y * y) * x.slope};
}

}  // namespace lnfree::math
