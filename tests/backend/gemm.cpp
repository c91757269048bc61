#include <cmath>
#include <type_traits>
#include <vector>

#include <lnfree/activation/relu.hpp>

#include "backend/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

std::string name(Added added) {
  return added == Added::nothing ? "" : added == Added::itself ? ", added to itself" : ", added to another";
}

/// C = ReLU(A B + bias), at once where the device can.
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

BOOST_AUTO_TEST_SUITE(backend_gemm)

// Every way to read the factors and to leave the result, over odd sizes; each matrix is a part of a wider
// one.
BOOST_AUTO_TEST_CASE_TEMPLATE(agrees, D, Backends) {
  for (const auto& [m, n, k] : {std::tuple<Index, Index, Index>{1, 1, 1},
                                {1, 64, 17},
                                {7, 5, 100},
                                {7, 100, 1},
                                {128, 17, 64},
                                {384, 100, 17},
                                {100, 384, 65},
                                {129, 131, 127},
                                // More than a panel is deep and a block has rows.
                                {203, 70, 391},
                                {70, 203, 800}}) {
    for (const bool transpose_a : {false, true}) {
      for (const bool transpose_b : {false, true}) {
        for (const auto& [added, gap] : {std::pair<Added, Index>{Added::nothing, 0},
                                         {Added::nothing, 3},
                                         {Added::itself, 3},
                                         {Added::another, 3}}) {
          check<D>(
              sizes(m, n, k) + (transpose_a ? " A^T" : " A") + (transpose_b ? " B^T" : " B") + name(added),
              [&, m = m, n = n, k = k, added = added, gap = gap](auto& bench) {
                auto a =
                    transpose_a ? bench.scalars("a", k, m, 1, m + gap) : bench.scalars("a", m, k, 1, k + gap);
                auto b =
                    transpose_b ? bench.scalars("b", n, k, 1, k + gap) : bench.scalars("b", k, n, 1, n + gap);
                auto c = bench.accumulator_output(added, "c", m, n, n + gap);
                gemm(bench.device(), {a, transpose_a}, {b, transpose_b}, c);
                bench.result("C", c.matrix, std::sqrt(static_cast<double>(k)));
              },
              {.any_thread_count = false});
        }
      }
    }
  }
}

// As a model has them: results in what activations are stored in, over whole tiles and parts of some; and the
// gradient of a weight, a sum over all rows of a batch.
BOOST_AUTO_TEST_CASE_TEMPLATE(products_of_activations, D, Backends) {
  for (const auto& [m, n, k] :
       {std::tuple<Index, Index, Index>{67, 48, 130}, {128, 256, 192}, {64, 1000, 96}, {1, 64, 64}}) {
    for (const Added added : {Added::nothing, Added::itself, Added::another}) {
      for (const Index gap : {0, 3, 16}) {
        check<D>(sizes(m, n, k) + name(added),
                 [&, m = m, n = n, k = k](auto& bench) {
                   auto a = bench.scalars("a", m, k), b = bench.scalars("b", k, n, 1, n + gap);
                   auto c = bench.scalar_output(added, "c", m, n);
                   gemm(bench.device(), a, b, c);
                   bench.result("C", c.matrix, std::sqrt(static_cast<double>(k)));
                 },
                 {.any_thread_count = false});
      }
    }
  }
}

// With what may follow a product; rows of whole packs and others.
BOOST_AUTO_TEST_CASE_TEMPLATE(epilogues, D, Backends) {
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

// ReLU lets through what is not a number, or infinite.
BOOST_AUTO_TEST_CASE_TEMPLATE(epilogues_hide_nothing, D, Backends) {
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

BOOST_AUTO_TEST_CASE_TEMPLATE(products_of_many_rows, D, Backends) {
  check<D>("deep",
           [](auto& bench) {
             constexpr Index rows = 16384;
             auto x = bench.scalars("x", rows, 48), d_y = bench.scalars("d_y", rows, 64);
             auto d_weight = bench.accumulators("d_weight", 48, 64);
             gemm(bench.device(), transpose(x), d_y, accumulate(d_weight));
             bench.result("d_weight", d_weight, std::sqrt(static_cast<double>(rows)));
           },
           {.any_thread_count = false});
}

BOOST_AUTO_TEST_SUITE_END()
