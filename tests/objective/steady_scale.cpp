#include <lnfree/objective/steady_scale.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/model.hpp>

#include "support/random_batch.hpp"
#include "support/seed.hpp"

using namespace lnfree;

namespace {

/// The penalty of rows, without the coefficient.
double spread(const std::vector<double>& scales) {
  double mean = 0, sum = 0;
  for (const double scale : scales) mean += scale / static_cast<double>(scales.size());
  for (const double scale : scales) sum += (scale - mean) * (scale - mean);
  return sum / static_cast<double>(scales.size());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(steady_scale)

BOOST_AUTO_TEST_CASE(penalty_of_rows) {
  using Device = Reference<double>;
  constexpr int batch = 2, length = 4, width = 6;
  constexpr DecoderConfig config{
      .layers = 1, .heads = 1, .width = width, .ffn_width = 8, .context = length, .vocab_size = 9};
  Device device;
  ParameterSet<Device> parameters;
  SteadyScale<Device> objective(parameters, config);
  Arena counted;
  objective.plan(counted, {batch, length}, config);
  std::vector<std::byte> memory(counted.peak());
  Arena placed(memory.data());
  objective.plan(placed, {batch, length}, config);

  std::vector<double> x(batch * length * width), d_x(x.size(), 0.5);
  fill_normal(x.data(), static_cast<Index>(x.size()), 2.0, Philox(test::seed(), 1));
  const std::vector<std::int32_t> tokens{3, 7, 1, 2, 7, 7, 4, 5};
  const TrainingPass pass{{batch, length}, 0.25, 0, tokens.data(), tokens.data()};
  const auto penalty = [&](double coefficient, std::int64_t end_of_text) {
    objective.options() = {.coefficient = coefficient, .end_of_text = end_of_text};
    return objective.on_stream(device, pass, Matrix<const double>(x.data(), batch * length, width),
                               Matrix<double>(d_x.data(), batch * length, width));
  };
  const auto scale_of = [&](int row) {
    double sum = 0, squares = 0;
    for (int j = 0; j < width; ++j) {
      const double value = x[static_cast<std::size_t>(row * width + j)];
      sum += value;
      squares += value * value;
    }
    return std::sqrt(squares / width - sum / width * sum / width + 1e-5);
  };
  std::vector<double> all, but_sevens;
  for (int row = 0; row < batch * length; ++row) {
    if (row % length == 0) continue;
    all.push_back(scale_of(row));
    if (tokens[static_cast<std::size_t>(row)] != 7) but_sevens.push_back(scale_of(row));
  }
  const auto close = boost::test_tools::tolerance(1e-12);
  BOOST_TEST(penalty(3, -1) == 3 * spread(all), close);
  BOOST_TEST(penalty(3, 7) == 3 * spread(but_sevens), close);
  // Rows that are left out have no gradient; the others do.
  std::fill(d_x.begin(), d_x.end(), 0.5);
  penalty(3, 7);
  for (int row = 0; row < batch * length; ++row) {
    const bool counts = row % length != 0 && tokens[static_cast<std::size_t>(row)] != 7;
    BOOST_TEST((d_x[static_cast<std::size_t>(row * width)] != 0.5) == counts, "row " << row);
  }
  const auto before = d_x;
  BOOST_TEST(penalty(0, 7) == 0);
  BOOST_TEST((d_x == before));
}

BOOST_AUTO_TEST_SUITE_END()
