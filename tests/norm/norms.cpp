#include <cmath>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/random.hpp>
#include <lnfree/norm/dynamic_erf.hpp>
#include <lnfree/norm/dynamic_tanh.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/norm/rms_norm.hpp>

#include "support/policies.hpp"

using namespace lnfree;

namespace {

using PointwiseNorms = std::tuple<DynamicTanh, DynamicErf>;
using Norms = std::tuple<LayerNorm, RMSNorm, test::PlainNorm>;

std::vector<double> normal(Index count, std::uint64_t stream) {
  std::vector<double> values(count);
  fill_normal(values.data(), count, 1.5, Philox(11, stream));
  return values;
}

template <class N>
RowStatistics<double> statistics(const std::vector<double>& x) {
  const double n = static_cast<double>(x.size());
  double mean = 0, variance = 0;
  for (const double value : x) mean += value / n;
  for (const double value : x) variance += (value - mean) * (value - mean) / n;
  return N::statistics(mean, variance);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(norms)

// The gradient of f(x) = sum_j w_j y_j(x), against central differences of f.
BOOST_AUTO_TEST_CASE_TEMPLATE(gradient_is_the_slope_of_value, N, Norms) {
  static_assert(lnfree::Norm<N>);
  for (const Index width : {2, 3, 17}) {
    std::vector<double> x = normal(width, 1);
    const std::vector<double> w = normal(width, 2);
    for (double& value : x) value += 0.7;
    const auto f = [&] {
      const auto row = statistics<N>(x);
      double sum = 0;
      for (Index j = 0; j < width; ++j) sum += w[j] * N::value(x[j], row);
      return sum;
    };
    const auto row = statistics<N>(x);
    double mean_w = 0, mean_w_y = 0;
    for (Index j = 0; j < width; ++j) {
      mean_w += w[j] / static_cast<double>(width);
      mean_w_y += w[j] * N::value(x[j], row) / static_cast<double>(width);
    }
    for (Index j = 0; j < width; ++j) {
      const double gradient = N::gradient(w[j], N::value(x[j], row), row, mean_w, mean_w_y);
      const double kept = x[j], h = 1e-6;
      x[j] = kept + h;
      const double above = f();
      x[j] = kept - h;
      const double below = f();
      x[j] = kept;
      BOOST_TEST(std::abs(gradient - (above - below) / (2 * h)) < 1e-7, N::name << " of width " << width);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(pointwise_derivative_is_the_slope_of_value, N, PointwiseNorms) {
  static_assert(lnfree::Norm<N> && PointwiseNorm<N> && !RowNorm<N>);
  for (double u = -4; u < 4; u += 0.1) {
    const double h = 1e-6;
    const double slope = (N::value(u + h) - N::value(u - h)) / (2 * h);
    BOOST_TEST(std::abs(N::derivative(u) - slope) < 1e-9, N::name << " at " << u);
  }
}

BOOST_AUTO_TEST_CASE(pointwise_values) {
  const auto close = boost::test_tools::tolerance(1e-14);
  BOOST_TEST(DynamicTanh::value(0.5) == 0.46211715726000979, close);
  BOOST_TEST(DynamicErf::value(0.5) == 0.52049987781304654, close);
}

BOOST_AUTO_TEST_CASE(rms_norm_of_a_row) {
  const auto row = statistics<RMSNorm>({1, -2, 3, -4});  // mean square 7.5
  BOOST_TEST(RMSNorm::value(3.0, row) == 3 / std::sqrt(7.5 + 1e-6), boost::test_tools::tolerance(1e-14));
}

BOOST_AUTO_TEST_CASE(layer_norm_of_a_row) {
  const std::vector<double> x{1, 2, 3, 6};  // mean 3, variance 3.5
  const auto row = statistics<LayerNorm>(x);
  BOOST_TEST(row.shift == 3.0);
  BOOST_TEST(row.scale == 1 / std::sqrt(3.5 + 1e-5), boost::test_tools::tolerance(1e-15));
  BOOST_TEST(LayerNorm::value(6.0, row) == 3 / std::sqrt(3.5 + 1e-5), boost::test_tools::tolerance(1e-15));
}

BOOST_AUTO_TEST_CASE(layer_norm_of_a_constant_row_is_zero) {
  const auto row = statistics<LayerNorm>({2, 2, 2});
  BOOST_TEST(LayerNorm::value(2.0, row) == 0.0);
}

BOOST_AUTO_TEST_SUITE_END()
