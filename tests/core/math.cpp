#include <lnfree/core/math.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <boost/test/unit_test.hpp>

using namespace lnfree;

namespace {

constexpr int samples = 400'000;

/// The worst of error(x) over evenly spaced floats of [from, to].
template <class Error>
double worst(float from, float to, Error error) {
  double worst = 0;
  for (int i = 0; i <= samples; ++i) {
    const float x = from + (to - from) * (static_cast<float>(i) / samples);
    worst = std::max(worst, error(x));
  }
  return worst;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(elementary_functions)

BOOST_AUTO_TEST_CASE(exp_in_float) {
  const auto relative = [](float x) {
    const double exact = std::exp(static_cast<double>(x));
    return std::abs(static_cast<double>(math::exp(x)) - exact) / exact;
  };
  BOOST_TEST(worst(-87, 88, relative) < 2e-7);
  BOOST_TEST(worst(-1, 1, relative) < 2e-7);
  BOOST_TEST(math::exp(0.0f) == 1.0f);
  for (const float low : {-88.0f, -1000.0f, -std::numeric_limits<float>::infinity()}) {
    BOOST_TEST(math::exp(low) > 0.0f);
    BOOST_TEST(math::exp(low) < 2e-38f);
  }
  for (const float high : {89.0f, 1000.0f, std::numeric_limits<float>::infinity()}) {
    BOOST_TEST(math::exp(high) > 1e38f);
    BOOST_TEST(std::isfinite(math::exp(high)));
  }
}

BOOST_AUTO_TEST_CASE(exp2_in_float) {
  const auto relative = [](float x) {
    const double exact = std::exp2(static_cast<double>(x));
    return std::abs(static_cast<double>(math::exp2(x)) - exact) / exact;
  };
  BOOST_TEST(worst(-126, 127, relative) < 2.4e-7);
  BOOST_TEST(worst(-1, 1, relative) < 2.4e-7);
  for (const float whole : {-126.0f, -2.0f, -1.0f, 0.0f, 1.0f, 127.0f}) {
    BOOST_TEST(math::exp2(whole) == std::exp2(whole));
  }
  for (const float low : {-127.0f, -1000.0f, -1e30f, -std::numeric_limits<float>::infinity()}) {
    BOOST_TEST(math::exp2(low) >= 0.0f);
    BOOST_TEST(math::exp2(low) < 2e-38f);
  }
}

BOOST_AUTO_TEST_CASE(every_nan_stays_one) {
  for (const std::uint32_t bits : {0x7fc00000u, 0xffc00000u, 0x7fc00001u, 0x7fffffffu, 0xffffffffu}) {
    const float nan = std::bit_cast<float>(bits);
    BOOST_TEST(std::isnan(math::exp(nan)), "exp of the NaN " << std::hex << bits);
    BOOST_TEST(std::isnan(math::exp2(nan)), "exp2 of the NaN " << std::hex << bits);
    BOOST_TEST(std::isnan(math::erf(nan)), "erf of the NaN " << std::hex << bits);
    BOOST_TEST(std::isnan(math::tanh(nan)), "tanh of the NaN " << std::hex << bits);
  }
}

BOOST_AUTO_TEST_CASE(erf_in_float) {
  const auto absolute = [](float x) {
    return std::abs(static_cast<double>(math::erf(x)) - std::erf(static_cast<double>(x)));
  };
  BOOST_TEST(worst(-5, 5, absolute) < 5e-7);
  BOOST_TEST(worst(3.5f, 4, absolute) < 5e-7);  // where it would exceed 1
  BOOST_TEST(worst(-1e-3f, 1e-3f, absolute) < 1e-9);
  for (const float far :
       {4.0f, 1e30f, std::numeric_limits<float>::max(), std::numeric_limits<float>::infinity()}) {
    BOOST_TEST(absolute(far) < 2e-7);
    BOOST_TEST(absolute(-far) < 2e-7);
  }
}

BOOST_AUTO_TEST_CASE(tanh_in_float) {
  const auto absolute = [](float x) {
    return std::abs(static_cast<double>(math::tanh(x)) - std::tanh(static_cast<double>(x)));
  };
  BOOST_TEST(worst(-20, 20, absolute) < 2e-7);
  BOOST_TEST(worst(-1, 1, absolute) < 2e-7);
  BOOST_TEST(math::tanh(1e30f) == 1.0f);
  BOOST_TEST(math::tanh(-1e30f) == -1.0f);
}

BOOST_AUTO_TEST_CASE(double_is_the_standard_library) {
  for (const double x : {-3.0, -0.1, 0.0, 0.5, 2.5}) {
    BOOST_TEST(math::exp(x) == std::exp(x));
    BOOST_TEST(math::exp2(x) == std::exp2(x));
    BOOST_TEST(math::erf(x) == std::erf(x));
    BOOST_TEST(math::tanh(x) == std::tanh(x));
    BOOST_TEST(math::sqrt(x * x) == std::sqrt(x * x));
  }
}

BOOST_AUTO_TEST_SUITE_END()
