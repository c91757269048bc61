#include <lnfree/observer/weight_observer.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <Eigen/SVD>
#include <lnfree/core/random.hpp>
#include <lnfree/model.hpp>
#include <lnfree/train/observations.hpp>

#include "support/seed.hpp"

using namespace lnfree;

namespace {

const auto closely = boost::test_tools::tolerance(1e-6);

double by_svd(const RowMajorMatrix<double>& matrix) {
  return Eigen::JacobiSVD<RowMajorMatrix<double>>(matrix).singularValues()(0);
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
      BOOST_TEST(largest_singular_value(part) == by_svd(as_eigen(part).cast<double>()), closely);
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

// Of every weight matrix of the blocks, by layer, under its name; three where three stand side by side.
BOOST_AUTO_TEST_CASE(the_matrices_of_a_model) {
  using Model = Decoder<tiny, LayerNorm, GELU, Cpu, Observers<EntropyObserver, WeightObserver>>;
  static_assert(Observer<WeightObserver>);
  Model model(1);
  model.initialize(7);
  const Json seen = observations(model);
  const Json& weights = seen["weights"];
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
        BOOST_TEST(one.get<double>() == by_svd(as_eigen(matrix).cast<double>()), closely);
      }
    }
  }
  BOOST_TEST(matrices == 4u * tiny.layers);
  BOOST_TEST(weights["attn.c_attn"][0].size() == 3u);
  model.observer().use<WeightObserver>(false);
  BOOST_TEST(!observations(model).contains("weights"));
  BOOST_TEST(observations(model).contains("entropy"));
}

BOOST_AUTO_TEST_SUITE_END()
