#include <bit>
#include <cmath>
#include <cstdint>
#include <ratio>
#include <vector>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/activation/leaky_learnable.hpp>
#include <lnfree/activation/leaky_relu.hpp>
#include <lnfree/activation/relu.hpp>

#include "device/workbench.hpp"
#include "support/policies.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

constexpr Index row_counts[] = {1, 7, 128, 384};
constexpr Index col_counts[] = {1, 5, 17, 64, 100};

template <class D, class A>
void check_activation() {
  for (const Index rows : row_counts) {
    for (const Index cols : col_counts) {
      for (const bool in_place : {false, true}) {
        check<D>(std::string(A::name) + " " + sizes(rows, cols), [&](auto& bench) {
          auto x = bench.scalars("x", rows, cols, 3);
          auto parameter = bench.scalars(std::vector<double>{0.3}, 1, 1);
          auto y = in_place ? x : bench.poisoned_scalars(rows, cols);
          const auto* p = LearnableActivation<A> ? parameter.data : nullptr;
          // In place, x is lost, which only works for an activation that saves its output.
          if (in_place && A::saved == Saved::input) {
            activation_forward(bench.device(), A{}, x, p, y);
            bench.result("y", y, 1);
            return;
          }
          activation_forward(bench.device(), A{}, x, p, y);
          auto d = bench.scalars("d", rows, cols);
          auto d_parameter = bench.accumulators("d_parameter", 1, 1);
          activation_backward(bench.device(), A{}, A::saved == Saved::input ? x : y, p, d,
                              LearnableActivation<A> ? d_parameter.data : nullptr);
          bench.result("y", y, 1);
          bench.result("d_x", d, 1);
          // As exact as the terms of the sum.
          bench.result("d_parameter", d_parameter, 3 * std::sqrt(static_cast<double>(rows * cols)));
        });
      }
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(device_elementwise)

BOOST_AUTO_TEST_CASE_TEMPLATE(activations_agree, D, Devices) {
  check_activation<D, GELU>();
  check_activation<D, GELUTanh>();
  check_activation<D, ReLU>();
  check_activation<D, LeakyReLU<>>();
  check_activation<D, LeakyReLU<std::ratio<1, 10>>>();
  check_activation<D, LeakyLearnable<Scope::per_layer>>();
  check_activation<D, LearnableSwish>();
}

BOOST_AUTO_TEST_CASE_TEMPLATE(activations_bear_extremes, D, Devices) {
  check<D>("extremes", [](auto& bench) {
    const std::vector<double> extremes{0.0, -0.0, 1e-30, -1e-30, 30, -30, 1000, -1000, NAN, 5, -5, 1};
    const auto size = static_cast<Index>(extremes.size());
    auto x = bench.scalars(extremes, 1, size);
    auto y = bench.poisoned_scalars(1, size);
    const auto each = [&]<class A>(A activation) {
      using Bench = std::remove_reference_t<decltype(bench)>;
      const typename Bench::Scalar* no_parameter = nullptr;
      typename Bench::Accumulator* no_gradient = nullptr;
      activation_forward(bench.device(), activation, x, no_parameter, y);
      bench.result(std::string(A::name), y);
      auto d = bench.scalars(std::vector<double>(extremes.size(), 1.0), 1, size);
      activation_backward(bench.device(), activation, A::saved == Saved::input ? x : y, no_parameter, d,
                          no_gradient);
      bench.result(std::string(A::name) + " derivative", d);
    };
    each(GELU{});
    each(GELUTanh{});
    each(ReLU{});
    each(LeakyReLU<>{});
  });
}

#ifdef LNFREE_TEST_CUDA
// A GPU that stores bf16 approximates GELU. For every number that it can store, the result is off by hardly
// more than by rounding, which is up to 2^-8 of it.
BOOST_AUTO_TEST_CASE(gelu_of_every_bfloat16) {
  std::vector<double> all;
  for (std::uint32_t bits = 0; bits < 1u << 16; ++bits) {
    const float x = std::bit_cast<float>(bits << 16);
    if (std::isfinite(x)) all.push_back(static_cast<double>(x));
  }
  const auto count = static_cast<Index>(all.size());
  Workbench<Cuda> bench(seed());
  const auto x = bench.scalars(all, 1, count), y = bench.poisoned_scalars(1, count),
             d = bench.scalars(std::vector<double>(all.size(), 1.0), 1, count);
  const BFloat16* const no_parameter = nullptr;
  activation_forward(bench.device(), GELU{}, x, no_parameter, y);
  activation_backward(bench.device(), GELU{}, x, no_parameter, d, static_cast<float*>(nullptr));
  const auto check = [&](const char* what, Matrix<BFloat16> results, double (*exact)(double),
                         double absolute) {
    const auto found = bench.download(results.data, count);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const double expected = exact(all[i]), error = std::abs(static_cast<float>(found[i]) - expected);
      if (error <= 0x1.01p-8 * std::abs(expected) + absolute) continue;
      if (++wrong < 5) BOOST_ERROR(what << " at " << all[i] << ": off by " << error << " of " << expected);
    }
    BOOST_TEST(wrong == 0u);
  };
  check("value", y, &GELU::value<double>, 1e-8);
  check("derivative", d, &GELU::derivative<double>, 2e-6);
}
#endif

BOOST_AUTO_TEST_CASE_TEMPLATE(biases_agree, D, Devices) {
  for (const Index rows : row_counts) {
    for (const Index cols : col_counts) {
      for (const Index gap : {0, 7}) {  // a query-key bias covers the first columns of a wider matrix
        check<D>(sizes(rows, cols), [&](auto& bench) {
          auto y = bench.scalars("y", rows, cols, 1, cols + gap);
          auto bias = bench.scalars("bias", 1, cols);
          auto d_y = bench.scalars("d_y", rows, cols, 1, cols + gap);
          auto d_bias = bench.accumulators("d_bias", 1, cols);
          bias_forward(bench.device(), y, bias.data);
          bias_backward(bench.device(), d_y, d_bias.data);
          bench.result("y", y, 1);
          bench.result("d_bias", d_bias, std::sqrt(static_cast<double>(rows)));
        });
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
