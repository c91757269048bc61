#include <lnfree/norm/layer_norm.hpp>

#include "backend/workbench.hpp"
#include "support/policies.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

template <class D, class N>
void check_norm() {
  for (const Index rows : {1, 7, 128, 384}) {
    for (const Index cols : {5, 17, 64, 100}) {
      for (const bool accumulates : {false, true}) {
        check<D>(std::string(N::name) + " " + sizes(rows, cols), [&](auto& bench) {
          using Bench = std::remove_reference_t<decltype(bench)>;
          auto x = bench.scalars("x", rows, cols, 2);
          auto gain = bench.scalars("gain", 1, cols);
          auto bias = bench.scalars("bias", 1, cols);
          auto y = bench.poisoned_scalars(rows, cols);
          auto* statistics = bench.template raw<RowStatistics<typename Bench::Accumulator>>(rows);
          auto d_y = bench.scalars("d_y", rows, cols);
          auto d_x = accumulates ? bench.scalars("d_x", rows, cols) : bench.poisoned_scalars(rows, cols);
          auto d_gain = bench.accumulators("d_gain", 1, cols);
          auto d_bias = bench.accumulators("d_bias", 1, cols);
          const auto* g = N::has_gain ? gain.data : nullptr;
          norm_forward(bench.device(), N{}, x, g, N::has_bias ? bias.data : nullptr, y, statistics);
          norm_backward(bench.device(), N{}, x, g, statistics, d_y, {d_x, accumulates},
                        N::has_gain ? d_gain.data : nullptr, N::has_bias ? d_bias.data : nullptr);
          bench.result("y", y);
          bench.result("d_x", d_x, 0.5);
          bench.result("d_gain", d_gain, 0.5);
          bench.result("d_bias", d_bias, 0.5);
        });
      }
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(backend_norm)

BOOST_AUTO_TEST_CASE_TEMPLATE(agrees, D, Backends) {
  check_norm<D, LayerNorm>();
  check_norm<D, RMSNorm>();
  check_norm<D, PlainNorm>();
}

// A mean far from 0 must not cost the variance its precision.
BOOST_AUTO_TEST_CASE_TEMPLATE(bears_a_large_mean, D, Backends) {
  check<D>("mean 100",
           [](auto& bench) {
             using Bench = std::remove_reference_t<decltype(bench)>;
             std::vector<double> values(4 * 64);
             for (std::size_t i = 0; i < values.size(); ++i)
               values[i] = 100 + std::sin(static_cast<double>(i));
             for (double& value : values) value = static_cast<float>(value);
             auto x = bench.scalars(values, 4, 64);
             auto gain = bench.scalars("gain", 1, 64);
             auto bias = bench.scalars("bias", 1, 64);
             auto y = bench.poisoned_scalars(4, 64);
             auto* statistics = bench.template raw<RowStatistics<typename Bench::Accumulator>>(4);
             norm_forward(bench.device(), LayerNorm{}, x, gain.data, bias.data, y, statistics);
             bench.result("y", y);
           },
           {.tolerance = 5e-5});
}

BOOST_AUTO_TEST_SUITE_END()
