#include "device/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

BOOST_AUTO_TEST_SUITE(device_gemm)

// Every way to read the factors and to write the result, for odd sizes; each matrix is part of a wider one.
BOOST_AUTO_TEST_CASE_TEMPLATE(agrees, D, Devices) {
  for (const auto& [m, n, k] : {std::tuple<Index, Index, Index>{1, 1, 1},
                                {1, 64, 17},
                                {64, 1, 17},
                                {7, 5, 100},
                                {7, 100, 1},
                                {128, 17, 64},
                                {384, 100, 17},
                                {100, 384, 65},
                                {129, 131, 127},
                                {50, 100, 24},  // strips of a transposed factor without a spare cache line
                                // Deeper than a panel, and more rows than a block.
                                {203, 70, 391},
                                {70, 203, 800},
                                // Blocks of a transposed factor one after the other, on two threads as well:
                                // panels that all of them use, and more than fit at once.
                                {420, 40, 20},
                                {820, 200, 20}}) {
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

// As in a model: results of the type of activations, for whole and partial tiles; and the gradient of a
// weight, a sum over all rows of a batch.
BOOST_AUTO_TEST_CASE_TEMPLATE(products_of_activations, D, Devices) {
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

BOOST_AUTO_TEST_CASE_TEMPLATE(products_of_many_rows, D, Devices) {
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
