#include <lnfree/observer/weight_observer.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/core/json.hpp>
#include <lnfree/core/random.hpp>
#include <lnfree/model.hpp>

#include "support/seed.hpp"

using namespace lnfree;

namespace {

const auto closely = boost::test_tools::tolerance(1e-6);

/// By power iteration: |w v| for the converged v that w^T w stretches most.
double by_power_iteration(Matrix<const float> w) {
  std::vector<double> v(static_cast<std::size_t>(w.cols)), u(static_cast<std::size_t>(w.rows));
  for (std::size_t j = 0; j < v.size(); ++j) v[j] = 1 + 0.1 * std::sin(static_cast<double>(j * j));
  double stretch = 0;
  for (int iteration = 0; iteration < 3000; ++iteration) {
    const double length = std::sqrt(std::inner_product(v.begin(), v.end(), v.begin(), 0.0));
    for (double& x : v) x /= length;
    for (Index i = 0; i < w.rows; ++i)
      u[static_cast<std::size_t>(i)] = std::inner_product(v.begin(), v.end(), w.row(i), 0.0);
    stretch = std::sqrt(std::inner_product(u.begin(), u.end(), u.begin(), 0.0));
    std::fill(v.begin(), v.end(), 0.0);
    for (Index i = 0; i < w.rows; ++i) {
      for (Index j = 0; j < w.cols; ++j)
        v[static_cast<std::size_t>(j)] += u[static_cast<std::size_t>(i)] / stretch * double(w.row(i)[j]);
    }
  }
  return stretch;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(weight_observer)

BOOST_AUTO_TEST_CASE(the_largest_singular_value) {
  LNFREE_LOG_SEED();
  const std::vector<std::pair<int, int>> shapes{{7, 19}, {19, 7}, {12, 12}, {1, 5}, {5, 1}};
  for (const auto& [rows, cols] : shapes) {
    for (const double size : {1.0, 1e-30, 1e30}) {
      std::vector<float> numbers(static_cast<std::size_t>(rows * (cols + 2)));
      fill_normal(numbers.data(), Index(numbers.size()), size, Philox(test::seed(), stream_of("matrix")));
      const Matrix<const float> part(numbers.data(), rows, cols, cols + 2);
      BOOST_TEST(largest_singular_value(part) == by_power_iteration(part), closely);
    }
  }
}

BOOST_AUTO_TEST_CASE(zeros_and_what_is_no_number) {
  std::vector<float> numbers(6, 0.0f);
  const Matrix<const float> matrix(numbers.data(), 2, 3);
  BOOST_TEST(largest_singular_value(matrix) == 0);
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    numbers[4] = bad;
    BOOST_TEST(std::isnan(largest_singular_value(matrix)));
  }
}

// Every weight matrix of the blocks, by layer, under its name; three numbers for three matrices side by side.
BOOST_AUTO_TEST_CASE(the_matrices_of_a_model) {
  static_assert(Observer<WeightObserver>);
  Decoder<tiny, LayerNorm, GELU, Cpu, EntropyObserver> model(1);
  model.initialize(7);
  Json weights;
  WeightObserver(tiny.layers, tiny.heads)
      .report(model.parameters(), model.device(),
              [&](const std::string& name, const auto& values) { weights[name] = values; });
  BOOST_TEST(weights.size() == 4u);
  std::size_t matrices = 0;
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.kind != ParameterKind::weight) continue;
    BOOST_TEST_CONTEXT(parameter.name) {
      ++matrices;
      const std::size_t layer = parameter.name.starts_with("h.1.") ? 1 : 0;
      const std::string name = parameter.name.substr(4, parameter.name.size() - 4 - 7);
      const Json& found = weights[name][layer];
      for (Index part = 0; part < parameter.parts; ++part) {
        const Index cols = parameter.shape[1] / parameter.parts;
        const auto matrix = parameter.value_matrix().columns(part * cols, cols);
        const Json& one = parameter.parts > 1 ? found[static_cast<std::size_t>(part)] : found;
        BOOST_TEST(one.get<double>() == by_power_iteration(matrix), closely);
      }
    }
  }
  BOOST_TEST(matrices == 4u * tiny.layers);
  BOOST_TEST(weights["attn.c_attn"][0].size() == 3u);
}

BOOST_AUTO_TEST_SUITE_END()
