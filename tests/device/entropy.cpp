#include <cmath>
#include <functional>

#include <lnfree/device/primitives.hpp>

#include "device/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// -sum p ln p of the softmax of one row of scores, 0 ln 0 = 0, straight from the formula.
double entropy_of(const std::vector<double>& scores) {
  double max = -infinity, sum = 0, entropy = 0;
  for (const double s : scores) max = std::max(max, s);
  for (const double s : scores) sum += std::exp(s - max);
  for (const double s : scores) {
    const double p = std::exp(s - max) / sum;
    if (p > 0) entropy -= p * std::log(p);
  }
  return entropy;
}

struct Heads {
  std::vector<double> sums;
  std::vector<std::int32_t> finite_rows;
};

/// Entropies of one sequence whose queries and keys are given, each (T, heads * head_dim).
template <class D>
Heads entropies(AttentionShape shape, const std::function<double(Index, Index)>& query,
                const std::function<double(Index, Index)>& key) {
  using Accumulator = typename D::Accumulator;
  const Index width = shape.width();
  std::vector<double> values(static_cast<std::size_t>(shape.rows() * 3 * width));
  for (Index i = 0; i < shape.rows(); ++i) {
    for (Index c = 0; c < width; ++c) {
      values[i * 3 * width + c] = query(i, c);
      values[i * 3 * width + width + c] = key(i, c);
      values[i * 3 * width + 2 * width + c] = 1;
    }
  }
  Workbench<D> bench(seed());
  const auto qkv = bench.scalars(values, shape.rows(), 3 * width);
  const auto y = bench.poisoned_scalars(shape.rows(), width);
  const auto log_sum = bench.poisoned_accumulators(shape.heads, shape.rows());
  const auto workspace = bench.poisoned_accumulators(1, attention_workspace(bench.device(), shape));
  const auto rows = bench.poisoned_accumulators(shape.heads, shape.rows());
  const auto sums = bench.poisoned_accumulators(1, shape.heads);
  auto* finite = bench.template raw<std::int32_t>(shape.heads);
  attention_forward(bench.device(), shape, qkv, y, log_sum.data, workspace.data,
                    RowEntropies<Accumulator>{rows.data});
  entropy_sums(bench.device(), rows, sums.data, finite);
  const auto host = bench.download(sums.data, shape.heads);
  return {{host.begin(), host.end()}, bench.download(finite, shape.heads)};
}

/// One head of one channel: the scores are s_ij = q_i k_j.
template <class D>
void check_products(std::vector<double> q, std::vector<double> k, const char* what) {
  for (auto* values : {&q, &k}) {
    for (double& value : *values) value = static_cast<float>(static_cast<Input>(static_cast<float>(value)));
  }
  const int length = static_cast<int>(q.size());
  double expected = 0;
  std::int32_t finite = 0;
  for (int i = 0; i < length; ++i) {
    std::vector<double> scores;
    bool row_is_finite = true;
    for (int j = 0; j <= i; ++j) {
      scores.push_back(q[i] * k[j]);
      row_is_finite = row_is_finite && std::isfinite(scores.back());
    }
    if (!row_is_finite) continue;
    expected += entropy_of(scores);
    ++finite;
  }
  const Heads heads = entropies<D>(
      {1, length, 1, 1}, [&](Index i, Index) { return q[i]; }, [&](Index i, Index) { return k[i]; });
  BOOST_TEST(heads.finite_rows[0] == finite, what << ": " << heads.finite_rows[0] << " rows, not " << finite);
  BOOST_TEST(std::abs(heads.sums[0] - expected) < 1e-5 * length,
             what << ": " << heads.sums[0] << ", not " << expected);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(device_entropy)

BOOST_AUTO_TEST_CASE_TEMPLATE(uniform_rows_have_ln_i, D, AndTheOracle) {
  for (const int length : {1, 7, 128}) {
    double expected = 0;
    for (int i = 1; i <= length; ++i) expected += std::log(static_cast<double>(i));
    const Heads heads = entropies<D>(
        {1, length, 2, 5}, [](Index, Index) { return 0.0; }, [](Index i, Index c) { return double(i - c); });
    for (int h = 0; h < 2; ++h) {
      BOOST_TEST(std::abs(heads.sums[h] - expected) <= 1e-6 * length);
      BOOST_TEST(heads.finite_rows[h] == length);
    }
  }
}

// Each query has a score of 1000 with its own key only.
BOOST_AUTO_TEST_CASE_TEMPLATE(one_hot_rows_have_none, D, AndTheOracle) {
  constexpr int length = 16, head_dim = 16;
  const auto unit = [](double scale) { return [scale](Index i, Index c) { return i == c ? scale : 0.0; }; };
  const Heads heads = entropies<D>({1, length, 1, head_dim}, unit(4000), unit(1));
  BOOST_TEST(std::abs(heads.sums[0]) < 1e-6);
  BOOST_TEST(heads.finite_rows[0] == length);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(scores_of_a_thousand, D, AndTheOracle) {
  std::vector<double> q, k, close;
  for (int i = 0; i < 45; ++i) {
    q.push_back(i % 5 == 0 ? -1000 : 1000);
    k.push_back(i % 3 == 0 ? 1 : -1);
    close.push_back(1 - static_cast<float>(i % 7) / 4096);  // scores within 2 of each other, all near +-1000
  }
  check_products<D>(q, k, "+-1000");
  check_products<D>(q, close, "near +-1000");
}

BOOST_AUTO_TEST_CASE_TEMPLATE(random_scores, D, AndTheOracle) {
  LNFREE_LOG_SEED();
  for (const double size : {0.1, 1.0, 5.0, 30.0}) {
    std::vector<float> draws(2 * 128);
    fill_normal(draws.data(), 2 * 128, size, Philox(seed(), stream_of("scores")));
    check_products<D>({draws.begin(), draws.begin() + 128}, {draws.begin() + 128, draws.end()}, "random");
  }
}

// They are counted, but not in the sum.
BOOST_AUTO_TEST_CASE_TEMPLATE(rows_that_are_not_finite, D, AndTheOracle) {
  const auto ramp = [](double step) {
    std::vector<double> values;
    for (int i = 0; i < 37; ++i) values.push_back(0.5 + step * i);
    return values;
  };
  for (const double bad : {double(NAN), infinity, -infinity}) {
    auto q = ramp(0.01);
    auto k = ramp(-0.02);
    q[5] = bad;
    check_products<D>(q, k, "a bad query");  // its row alone
    q[5] = 0.5;
    k[5] = bad;
    check_products<D>(q, k, "a bad key");  // every row from there on
    k[5] = 0.5;
    k[0] = bad;
    check_products<D>(q, k, "a bad first key");  // no row is left
    k[0] = 0.5;
    k[36] = bad;
    check_products<D>(q, k, "a bad last key");
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(heads_are_counted_apart, D, AndTheOracle) {
  const Heads heads = entropies<D>(
      {1, 9, 3, 4}, [](Index, Index) { return 1.0; },
      [](Index i, Index c) { return c == 5 && i == 2 ? NAN : 0.25; });
  BOOST_TEST(heads.finite_rows[0] == 9);
  BOOST_TEST(heads.finite_rows[1] == 2);
  BOOST_TEST(heads.finite_rows[2] == 9);
  BOOST_TEST(std::abs(heads.sums[1] - std::log(2.0)) < 1e-6);
  BOOST_TEST(std::abs(heads.sums[2] - std::log(362880.0)) < 1e-5);  // the sum of ln i is ln 9!
}

BOOST_AUTO_TEST_CASE_TEMPLATE(sums_and_penalties_agree, D, Devices) {
  constexpr int heads = 3;
  for (const Index sequences : {1, 2, 7}) {
    for (const Index length : {1, 7, 45, 128}) {
      check<D>(sizes(sequences, length), [&](auto& bench) {
        const Index rows = sequences * heads;
        std::vector<double> values;
        const auto draws = bench.accumulators("entropies", rows, length);
        for (const auto value : bench.download(draws.data, rows * length)) values.push_back(std::abs(value));
        values[values.size() / 2] = NAN;
        const auto entropies = bench.accumulators(values, rows, length);
        const auto sums = bench.poisoned_accumulators(1, rows);
        auto* const finite = bench.template raw<std::int32_t>(rows);
        entropy_sums(bench.device(), entropies, sums.data, finite);
        bench.result("sums", sums);
        bench.result("finite rows", finite, rows);

        const auto thresholds = bench.scalars({0.25, 0.5, 0.875}, 1, heads);
        const auto penalties = bench.poisoned_accumulators(1, rows),
                   d_rows = bench.poisoned_accumulators(rows, length);
        const auto d_thresholds = bench.accumulators("d_thresholds", 1, heads);
        entropy_penalty(bench.device(), {.max_entropy = 1.5, .margin = 0.3, .scale = 0.2}, heads, entropies,
                        thresholds.data, penalties.data, d_rows, d_thresholds.data);
        bench.result("penalties", penalties, 1);
        bench.result("d_rows", d_rows);
        bench.result("d_thresholds", d_thresholds, 1);
      });
    }
  }
}

// Worked by hand: thresholds 1 and 2 nats, a margin of 0.5.
BOOST_AUTO_TEST_CASE_TEMPLATE(penalty_of_a_few_entropies, D, AndTheOracle) {
  Workbench<D> bench(seed());
  const auto entropies = bench.accumulators({0.25, 1.25, 3.0, 1.75, infinity, 4.0}, 2, 3);
  const auto thresholds = bench.scalars({0.25, 0.5}, 1, 2);
  const auto sums = bench.poisoned_accumulators(1, 2), d_rows = bench.poisoned_accumulators(2, 3);
  const auto d_thresholds = bench.accumulators(std::vector<double>{0, 10}, 1, 2);
  entropy_penalty(bench.device(), {.max_entropy = 4, .margin = 0.5, .scale = 0.5}, 2, entropies,
                  thresholds.data, sums.data, d_rows, d_thresholds.data);
  const auto expect = [&](const auto& matrix, std::vector<double> expected) {
    const auto found = bench.download(matrix.data, static_cast<Index>(expected.size()));
    for (std::size_t i = 0; i < expected.size(); ++i)
      BOOST_TEST(static_cast<double>(found[i]) == expected[i], boost::test_tools::tolerance(1e-6));
  };
  expect(sums, {0.75 * 0.75 + 4, 4});
  expect(d_rows, {-0.75, 0, 2, 0, 0, 2});
  expect(d_thresholds, {-4 * 1.25, 10 - 4 * 2});
}

BOOST_AUTO_TEST_SUITE_END()
