#include <cmath>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/random.hpp>
#include <lnfree/norm/call.hpp>
#include <lnfree/norm/dynamic_erf.hpp>
#include <lnfree/norm/dynamic_tanh.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/norm/rms_norm.hpp>
#include <lnfree/norm/tapered.hpp>

#include "support/policies.hpp"

using namespace lnfree;

namespace {

using Norms = std::tuple<LayerNorm, RMSNorm, DynamicTanh, DynamicErf, Tapered, test::PlainNorm,
                         test::BentNorm, test::Gate>;

std::vector<double> normal(Index count, std::uint64_t stream) {
  std::vector<double> values(static_cast<std::size_t>(count));
  fill_normal(values.data(), count, 1.5, Philox(11, stream));
  return values;
}

NormRow<double> moments_of(const std::vector<double>& x) {
  const double n = static_cast<double>(x.size());
  NormRow<double> row{};
  for (const double value : x) row.moments.mean += value / n;
  for (const double value : x)
    row.moments.variance += (value - row.moments.mean) * (value - row.moments.mean) / n;
  return row;
}

template <class N>
NormRow<double> row_of(const std::vector<double>& x) {
  NormRow<double> row = moments_of(x);
  if constexpr (RowNorm<N>) row = norm_row<N>(row.moments.mean, row.moments.variance);
  return row;
}

/// Element j of a row; parameter k is parameters[k] everywhere.
template <class N>
NormElement<N, double> element(const std::vector<double>& x, std::size_t j,
                               const std::vector<double>& parameters) {
  NormElement<N, double> result{x[j], row_of<N>(x).statistics, {}};
  for_norm_parameters<N>([&](auto k) { result.p[k()] = parameters[k()]; });
  return result;
}

double slope(double& at, const auto& f) {
  const double kept = at, h = 1e-6;
  at = kept + h;
  const double above = f();
  at = kept - h;
  const double below = f();
  at = kept;
  return (above - below) / (2 * h);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(norms)

// The gradients of f(x, p) = sum_j w_j y_j(x, p), against central differences of f.
BOOST_AUTO_TEST_CASE_TEMPLATE(derivatives_are_the_slopes_of_value, N, Norms) {
  static_assert(lnfree::Norm<N> && RowNorm<N> != PointwiseNorm<N>);
  for (const Index width : {2, 3, 17}) {
    std::vector<double> x = normal(width, 1), p = normal(norm_parameter_count<N>, 3);
    const std::vector<double> w = normal(width, 2);
    for (double& value : x) value += 0.7;
    const auto f = [&] {
      double sum = 0;
      for (std::size_t j = 0; j < x.size(); ++j) sum += w[j] * element<N>(x, j, p).value();
      return sum;
    };
    double d_shift = 0, d_scale = 0;
    for (std::size_t j = 0; j < x.size(); ++j) {
      d_shift += w[j] * element<N>(x, j, p).slope_of_shift();
      d_scale += w[j] * element<N>(x, j, p).slope_of_scale();
    }
    RowGradient<double> of_row{};
    const RowMoments<double> moments = moments_of(x).moments;
    if constexpr (RowNorm<N>)
      of_row = row_gradient<N>(moments, d_shift, d_scale, 1 / static_cast<double>(width));
    for (std::size_t j = 0; j < x.size(); ++j) {
      const double gradient =
          w[j] * element<N>(x, j, p).slope() + of_row.mean + of_row.variance * (x[j] - moments.mean);
      BOOST_TEST(std::abs(gradient - slope(x[j], f)) < 1e-7, N::name << " of width " << width);
    }
    for_norm_parameters<N>([&](auto k) {
      double gradient = 0;
      for (std::size_t j = 0; j < x.size(); ++j)
        gradient += w[j] * element<N>(x, j, p).template slope_of_parameter<k()>();
      BOOST_TEST(std::abs(gradient - slope(p[k()], f)) < 1e-7, N::name << ", parameter " << k());
    });
  }
}

BOOST_AUTO_TEST_CASE(pointwise_values) {
  const auto close = boost::test_tools::tolerance(1e-14);
  BOOST_TEST(DynamicTanh::value(1.0, {0.5, 2.0, 0.25}) == 2 * 0.46211715726000979 + 0.25, close);
  BOOST_TEST(DynamicErf::value(0.5, {0.5, 0.25, 2.0, 0.25}) == 2 * 0.52049987781304654 + 0.25, close);
}

BOOST_AUTO_TEST_CASE(rms_norm_of_a_row) {
  const auto y = element<RMSNorm>({1, -2, 3, -4}, 2, {0.5}).value();  // mean square 7.5
  BOOST_TEST(y == 0.5 * 3 / std::sqrt(7.5 + 1e-6), boost::test_tools::tolerance(1e-14));
}

BOOST_AUTO_TEST_CASE(layer_norm_of_a_row) {
  const std::vector<double> x{1, 2, 3, 6};  // mean 3, variance 3.5
  const auto row = row_of<LayerNorm>(x);
  BOOST_TEST(row.statistics.shift == 3.0);
  BOOST_TEST(row.statistics.scale == 1 / std::sqrt(3.5 + 1e-5), boost::test_tools::tolerance(1e-15));
  BOOST_TEST(element<LayerNorm>(x, 3, {2, 0.5}).value() == 2 * 3 / std::sqrt(3.5 + 1e-5) + 0.5,
             boost::test_tools::tolerance(1e-15));
}

BOOST_AUTO_TEST_CASE(a_tapered_norm_is_a_layer_norm_at_first_and_linear_at_last) {
  const std::vector<double> x{1, 2, 3, 6};  // mean 3, variance 3.5
  const auto close = boost::test_tools::tolerance(1e-14);
  const double inverse = 1 / std::sqrt(3.5 + 1e-5);
  BOOST_TEST(element<Tapered>(x, 3, {2, 0.5, 1, 0.7}).value() == 2 * 3 * inverse + 0.5);
  BOOST_TEST(element<Tapered>(x, 3, {2, 0.5, 0, 0.7}).value() == 2 * 3 * 0.7, close);
  BOOST_TEST(element<Tapered>(x, 3, {2, 0.5, 0.25, 0.7}).value() ==
                 2 * 3 * (0.25 * inverse + 0.75 * 0.7) + 0.25 * 0.5,
             close);
}

BOOST_AUTO_TEST_CASE(layer_norm_of_a_constant_row_is_its_bias) {
  BOOST_TEST(element<LayerNorm>({2, 2, 2}, 0, {3, 0.5}).value() == 0.5);
}

BOOST_AUTO_TEST_SUITE_END()
