#include <lnfree/objective/steady_scale.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/model.hpp>
#include <lnfree/train/gradient_check.hpp>

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

/// The penalty of the anchor, without the coefficient.
double distance(const std::vector<double>& scales, double target) {
  double sum = 0;
  for (const double scale : scales) sum += (scale - target) * (scale - target);
  return sum / static_cast<double>(scales.size());
}

/// The objective by itself, and the stream of a pass.
struct Rows {
  using Device = Reference<double>;
  static constexpr int batch = 2, length = 4, width = 6;
  static constexpr DecoderConfig config{
      .layers = 1, .heads = 1, .width = width, .ffn_width = 8, .context = length, .vocab_size = 9};

  Rows() : objective(parameters, config), x(batch * length * width), d_x(x.size(), 0.5) {
    Arena counted;
    objective.plan(counted, {batch, length}, config);
    memory.resize(counted.peak());
    Arena placed(memory.data());
    objective.plan(placed, {batch, length}, config);
    fill_normal(x.data(), static_cast<Index>(x.size()), 2.0, Philox(test::seed(), 1));
  }

  double penalty(const SteadyScaleOptions& options) {
    objective.options() = options;
    const TrainingPass pass{{batch, length}, 0.25, 0, tokens.data(), tokens.data()};
    return objective.on_stream(device, pass, Matrix<const double>(x.data(), batch * length, width),
                               Matrix<double>(d_x.data(), batch * length, width));
  }

  double scale_of(int row) const {
    double sum = 0, squares = 0;
    for (int j = 0; j < width; ++j) {
      const double value = x[static_cast<std::size_t>(row * width + j)];
      sum += value;
      squares += value * value;
    }
    return std::sqrt(squares / width - sum / width * sum / width + 1e-5);
  }

  Device device;
  ParameterSet<Device> parameters;
  SteadyScale<Device> objective;
  std::vector<std::byte> memory;
  std::vector<double> x, d_x;
  const std::vector<std::int32_t> tokens{3, 7, 1, 2, 7, 7, 4, 5};
};

}  // namespace

BOOST_AUTO_TEST_SUITE(steady_scale)

BOOST_AUTO_TEST_CASE(penalty_of_rows) {
  LNFREE_LOG_SEED();
  constexpr int batch = Rows::batch, length = Rows::length, width = Rows::width;
  Rows rows;
  const auto& tokens = rows.tokens;
  auto& d_x = rows.d_x;
  const auto penalty = [&](double coefficient, std::int64_t end_of_text) {
    return rows.penalty({.coefficient = coefficient, .end_of_text = end_of_text});
  };
  const auto scale_of = [&](int row) { return rows.scale_of(row); };
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
  // The anchor: nothing before there is a target; then the distance from it, beside the spread.
  const auto anchored = [&](double coefficient, double anchor) {
    return rows.penalty({.coefficient = coefficient, .end_of_text = 7, .anchor = anchor});
  };
  BOOST_TEST(anchored(0, 2) == 0);
  BOOST_TEST((d_x == before));
  rows.objective.set_target(1.5);
  BOOST_TEST(anchored(0, 2) == 2 * distance(but_sevens, 1.5), close);
  BOOST_TEST(anchored(3, 2) == 3 * spread(but_sevens) + 2 * distance(but_sevens, 1.5), close);
}

// A mean over the steps so far, at most the last hundred or so, and over the rows of all passes of a step.
BOOST_AUTO_TEST_CASE(the_target_follows_the_scale) {
  LNFREE_LOG_SEED();
  const auto close = boost::test_tools::tolerance(1e-12);
  Rows rows;
  double mean = 0;
  for (const int row : {2, 3, 6, 7})
    mean += rows.scale_of(row) / 4;  // those that are no first ones and no sevens
  std::vector<double> sums;
  rows.penalty({.coefficient = 0, .end_of_text = 7, .anchor = 2});
  rows.objective.measure(sums);
  BOOST_TEST(!rows.objective.has_target());
  rows.objective.update_target(0, sums);
  BOOST_TEST(rows.objective.target() == mean, close);
  rows.objective.update_target(1, {8, 2, 12, 2});  // whose mean is 5
  BOOST_TEST(rows.objective.target() == (mean + 5) / 2, close);
  const double before = rows.objective.target();
  rows.objective.update_target(5000, {8, 2, 12, 2});
  BOOST_TEST(rows.objective.target() == 0.99 * before + 0.01 * 5, close);
  // Steps without rows, or without numbers, change nothing.
  const double kept = rows.objective.target();
  for (const std::vector<double>& none : {std::vector<double>{0, 0}, {NAN, 3}, {INFINITY, 3}, {}}) {
    rows.objective.update_target(6, none);
    BOOST_TEST(rows.objective.target() == kept);
  }
  // Nobody asks for an anchor: there is none.
  Rows others;
  others.penalty({.coefficient = 1});
  others.objective.update_target(0, sums);
  BOOST_TEST(!others.objective.has_target());
}

BOOST_AUTO_TEST_CASE(gradients_are_those_of_the_penalties) {
  using Model = Decoder<clean(tiny), Identity, GELU, Reference<double>, NoObserver, PreNorm, SteadyScale>;
  const auto report = gradient_check<Model>({.elements = 6}, [](auto& model) {
    model.objective().options() = {.coefficient = 0.7, .end_of_text = 5, .anchor = 0.4};
    model.objective().set_target(1.3);
  });
  BOOST_TEST(report.worst() < 1e-6, report.text());
}

BOOST_AUTO_TEST_SUITE_END()
