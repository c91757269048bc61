#include <cmath>
#include <type_traits>
#include <vector>

#include <lnfree/activation/relu.hpp>

#include "device/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

/// C = ReLU(A B + bias), fused if the device can.
template <class D>
void biased_relu(D& device, Matrix<typename D::Scalar> a, Matrix<typename D::Scalar> b,
                 Output<typename D::Scalar> c, const typename D::Scalar* bias) {
  using S = typename D::Scalar;
  if constexpr (HasEpilogue<D, ReLU>) {
    gemm(device, a, b, c, Epilogue<S, ReLU>{bias});
  } else {
    gemm(device, a, b, c);
    if (bias != nullptr) bias_forward(device, c.matrix, bias);
    activation_forward(device, ReLU(), Matrix<const S>(c.matrix), static_cast<const S*>(nullptr), c.matrix);
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(device_epilogues)

// With every epilogue, and with rows of whole packs and others.
BOOST_AUTO_TEST_CASE_TEMPLATE(agree, D, Devices) {
  for (const auto& [m, n, k] : {std::tuple<Index, Index, Index>{128, 256, 192}, {67, 45, 13}}) {
    for (const Added added : {Added::nothing, Added::itself, Added::another}) {
      for (const bool biased : {false, true}) {
        check<D>(sizes(m, n, k) + name(added) + (biased ? ", a bias" : ""),
                 [&, m = m, n = n, k = k](auto& bench) {
                   auto a = bench.scalars("a", m, k), b = bench.scalars("b", k, n);
                   auto c = bench.scalar_output(added, "c", m, n);
                   auto bias = bench.scalars("bias", 1, n, 5);
                   biased_relu(bench.device(), a, b, c, biased ? bias.data : nullptr);
                   bench.result("C", c.matrix, std::sqrt(static_cast<double>(k)));
                 },
                 {.any_thread_count = false});
      }
    }
  }
}

// ReLU passes NaN and infinity through.
BOOST_AUTO_TEST_CASE_TEMPLATE(hide_nothing, D, Devices) {
  check<D>("bad values",
           [](auto& bench) {
             std::vector<double> values(64 * 64, 0.5);
             values[3 * 64 + 7] = NAN;
             values[5 * 64 + 7] = INFINITY;
             auto a = bench.scalars(values, 64, 64), b = bench.scalars("b", 64, 128);
             auto c = bench.poisoned_scalars(64, 128);
             const typename std::remove_reference_t<decltype(bench)>::Scalar* no_bias = nullptr;
             biased_relu(bench.device(), a, b, c, no_bias);
             for (const auto value : bench.download(c.row(3), 128)) BOOST_TEST(std::isnan(float(value)));
             Index infinite = 0;
             for (const auto value : bench.download(c.row(5), 128)) infinite += std::isinf(float(value));
             BOOST_TEST(infinite > 0);
             bench.result("other rows", c.slice(6, 58), 1);
           },
           {.any_thread_count = false});
}

BOOST_AUTO_TEST_SUITE_END()
