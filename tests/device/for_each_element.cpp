#include <lnfree/optim/adamw.hpp>

#include <cmath>
#include <utility>

#include "device/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

constexpr Index counts[] = {1, 5, 17, 64, 100, 1001, 100'003};
/// The second update, with clipping.
template <class T>
AdamWRule<T> rule() {
  return {{}, /*learning_rate=*/0.01, /*weight_decay=*/0.1, /*t=*/2, /*clip=*/0.7};
}

/// The state of one AdamW update. v is a square, so squares of random numbers are used.
template <class Bench>
struct AdamWState {
  using Accumulator = typename Bench::Accumulator;
  using Scalar = typename Bench::Scalar;
  Matrix<Accumulator> master, gradient, m, v;
  Scalar* value;

  AdamWState(Bench& bench, Index count)
      : master(bench.accumulators("master", 1, count)),
        gradient(bench.accumulators("gradient", 1, count)),
        m(bench.accumulators("m", 1, count, 0.1)) {
    auto squares = bench.download(bench.accumulators("v", 1, count, 0.5).data, count);
    for (auto& x : squares) x = static_cast<float>(x * x);
    v = bench.accumulators(std::vector<double>(squares.begin(), squares.end()), 1, count);
    if constexpr (std::is_same_v<Scalar, Accumulator>) {
      value = master.data;
    } else {
      value = bench.poisoned_scalars(1, count).data;
    }
  }

  void update(Bench& bench, Index count) {
    auto& device = bench.device();
    if constexpr (std::is_same_v<Scalar, Accumulator>) {
      for_each_element(device, count, ApplyRule<AdamWRule<Accumulator>>{rule<Accumulator>()}, master.data,
                       gradient.data, m.data, v.data);
    } else {
      for_each_element(device, count, ApplyRuleAndCopy<AdamWRule<Accumulator>>{rule<Accumulator>()},
                       master.data, gradient.data, value, m.data, v.data);
    }
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(device_for_each_element)

BOOST_AUTO_TEST_CASE_TEMPLATE(sums_of_squares_agree, D, Devices) {
  for (const Index count : counts) {
    check<D>(sizes(count), [&](auto& bench) {
      auto values = bench.accumulators("values", 1, count);
      const auto* const read = values.data;
      bench.result("sum", sum_of(bench.device(), count, Square{}, read));
    });
  }
}

/// y = x y, of an array that is only read and one that is not; gives their new sum.
struct Multiply {
  template <class T>
  LNFREE_HOST_DEVICE T operator()(T& x, T& y) const {
    y = x * y;
    x = T(0);  // lost: that array is const
    return x + y;
  }
};

// Arrays of both types, one of them only read.
BOOST_AUTO_TEST_CASE_TEMPLATE(functions_of_two_arrays_agree, D, Devices) {
  for (const Index count : counts) {
    check<D>(sizes(count), [&](auto& bench) {
      auto x = bench.scalars("x", 1, count);
      auto y = bench.accumulators("y", 1, count);
      const auto* const read = x.data;
      // Terms of both signs, which can nearly cancel.
      bench.result("sum", sum_of(bench.device(), count, Multiply{}, read, std::as_const(y.data)),
                   std::sqrt(static_cast<double>(count)));
      for_each_element(bench.device(), count, Multiply{}, read, y.data);
      bench.result("x", x);
      bench.result("y", y);
    });
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(adamw_agrees, D, Devices) {
  for (const Index count : counts) {
    check<D>(sizes(count),
             [&](auto& bench) {
               AdamWState state(bench, count);
               state.update(bench, count);
               bench.result("master", state.master, 1);
               bench.result("value", state.value, count, 1);
               bench.result("gradient", state.gradient);
               bench.result("m", state.m, 0.1);
               bench.result("v", state.v);
             },
             {.any_thread_count = false});
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(adamw_follows_the_formula, D, AndTheOracle) {
  LNFREE_LOG_SEED();
  constexpr Index count = 100;
  Workbench<D> bench(seed());
  AdamWState state(bench, count);
  const auto w = bench.download(state.master.data, count),
             gradient = bench.download(state.gradient.data, count);
  const auto m = bench.download(state.m.data, count), v = bench.download(state.v.data, count);
  state.update(bench, count);
  std::vector<double> expected_w, expected_m, expected_v;
  for (Index i = 0; i < count; ++i) {
    const double g = 0.7 * double(gradient[i]);
    expected_m.push_back(0.9 * double(m[i]) + 0.1 * g);
    expected_v.push_back(0.999 * double(v[i]) + 0.001 * g * g);
    const double decayed = double(w[i]) * (1 - 0.01 * 0.1);
    expected_w.push_back(decayed - 0.01 * (expected_m.back() / 0.19) /
                                       (std::sqrt(expected_v.back() / (1 - 0.999 * 0.999)) + 1e-8));
  }
  const double tolerance = std::is_same_v<typename D::Accumulator, double> ? 1e-13 : 2e-6;
  const auto error = [&](auto matrix, const std::vector<double>& expected) {
    const auto host = bench.download(matrix.data, count);
    return distance(std::vector<double>(host.begin(), host.end()), expected);
  };
  BOOST_TEST(error(state.master, expected_w) < tolerance);
  BOOST_TEST(error(state.m, expected_m) < tolerance);
  BOOST_TEST(error(state.v, expected_v) < tolerance);
  BOOST_TEST(error(state.gradient, std::vector<double>(count, 0.0)) == 0);
}

BOOST_AUTO_TEST_SUITE_END()
