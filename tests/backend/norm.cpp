#include <lnfree/norm/dynamic_erf.hpp>
#include <lnfree/norm/dynamic_tanh.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/norm/rms_norm.hpp>

#include "backend/workbench.hpp"
#include "support/policies.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

template <class D, class N>
void check_norm(Index rows, Index cols) {
  for (const Added added : {Added::nothing, Added::itself, Added::another}) {
    check<D>(std::string(N::name) + " " + sizes(rows, cols), [&](auto& bench) {
      using Bench = std::remove_reference_t<decltype(bench)>;
      auto x = bench.scalars("x", rows, cols, 2);
      auto gain = bench.scalars("gain", 1, cols);
      auto bias = bench.scalars("bias", 1, cols);
      auto y = bench.poisoned_scalars(rows, cols);
      auto* statistics = bench.template raw<RowStatistics<typename Bench::Accumulator>>(rows);
      auto d_y = bench.scalars("d_y", rows, cols);
      auto d_x = bench.scalar_output(added, "d_x", rows, cols);
      auto d_gain = bench.accumulators("d_gain", 1, cols);
      auto d_bias = bench.accumulators("d_bias", 1, cols);
      const auto* g = N::has_gain ? gain.data : nullptr;
      norm_forward(bench.device(), N{}, x, g, N::has_bias ? bias.data : nullptr, y, statistics);
      norm_backward(bench.device(), N{}, x, g, statistics, d_y, d_x, N::has_gain ? d_gain.data : nullptr,
                    N::has_bias ? d_bias.data : nullptr);
      bench.result("y", y);
      bench.result("d_x", d_x.matrix, 0.5);
      bench.result("d_gain", d_gain, 0.5);
      bench.result("d_bias", d_bias, 0.5);
    });
  }
}

template <class D, class N>
void check_norm() {
  for (const Index rows : {1, 7, 128, 384}) {
    for (const Index cols : {5, 17, 64, 100}) check_norm<D, N>(rows, cols);
  }
  // On a GPU: more rows than all blocks take at once, and so many columns that a block takes fewer rows.
  check_norm<D, N>(4101, 8);
  check_norm<D, N>(5, 2053);
  check_norm<D, N>(13, 2056);
}

template <class D, class N>
void check_pointwise_norm() {
  for (const Index rows : {1, 7, 384}) {
    for (const Index cols : {5, 64, 100}) {
      for (const Added added : {Added::nothing, Added::itself, Added::another}) {
        check<D>(std::string(N::name) + " " + sizes(rows, cols), [&](auto& bench) {
          using Bench = std::remove_reference_t<decltype(bench)>;
          auto x = bench.scalars("x", rows, cols, 2), y = bench.poisoned_scalars(rows, cols);
          auto d_y = bench.scalars("d_y", rows, cols);
          auto d_x = bench.scalar_output(added, "d_x", rows, cols);
          auto scalars = bench.scalars({0.625, -0.25}, 1, 2), gain = bench.scalars("gain", 1, cols),
               bias = bench.scalars("bias", 1, cols);
          auto d_scalars = bench.accumulators("d_scalars", 1, 2),
               d_gain = bench.accumulators("d_gain", 1, cols), d_bias = bench.accumulators("d_bias", 1, cols);
          using Scalar = const typename Bench::Scalar;
          const NormParameters<Scalar> p{scalars.data, N::has_shift ? scalars.data + 1 : nullptr, gain.data,
                                         bias.data};
          norm_forward(bench.device(), N{}, x, p, y);
          norm_backward(
              bench.device(), N{}, x, p, d_y, d_x,
              NormParameters<typename Bench::Accumulator>{
                  d_scalars.data, N::has_shift ? d_scalars.data + 1 : nullptr, d_gain.data, d_bias.data});
          bench.result("y", y, 0.5);
          bench.result("d_x", d_x.matrix, 0.5);
          // Sums of rows cols terms of either sign.
          bench.result("d_scalars", d_scalars, std::sqrt(static_cast<double>(rows * cols)));
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
  check_pointwise_norm<D, DynamicTanh>();
  check_pointwise_norm<D, DynamicErf>();
}

#ifdef LNFREE_TEST_CUDA
BOOST_AUTO_TEST_CASE_TEMPLATE(refuses_rows_that_are_too_long, D, Backends) {
  using S = typename D::Scalar;
  D device;
  const Matrix<S> row(nullptr, 1, 12673);
  BOOST_CHECK_EXCEPTION(
      norm_backward(device, LayerNorm{}, Matrix<const S>(row), static_cast<const S*>(nullptr),
                    static_cast<const RowStatistics<float>*>(nullptr), Matrix<const S>(row), Output<S>(row),
                    static_cast<float*>(nullptr), static_cast<float*>(nullptr)),
      Error, [](const Error& error) {
        return std::string(error.what()).find("up to 12672 numbers, not 12673") != std::string::npos;
      });
}
#endif

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
