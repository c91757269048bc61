#include "device/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

BOOST_AUTO_TEST_SUITE(device_statistics)

BOOST_AUTO_TEST_CASE_TEMPLATE(agrees, D, Devices) {
  for (const Index rows : {1, 7, 384}) {
    for (const Index cols : {1, 17, 100}) {
      check<D>(sizes(rows, cols), [&](auto& bench) {
        auto x = bench.scalars("x", rows, cols, 1, cols + 3);
        auto sums = bench.poisoned_accumulators(1, cols);
        column_squares(bench.device(), x, sums.data);
        bench.result("sums", sums);
      });
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(zeros_of_either_sign_are_counted, D, Devices) {
  for (const Index rows : {1, 7, 300}) {
    check<D>(sizes(rows, 130), [&](auto& bench) {
      std::vector<double> values(static_cast<std::size_t>(rows) * 130, 1e-30);
      Index expected = 0;
      for (std::size_t i = 0; i < values.size(); i += 7, ++expected) values[i] = i % 2 == 0 ? 0.0 : -0.0;
      values[1] = NAN;
      const auto x = bench.scalars(values, rows, 130);
      BOOST_TEST(count_zeros(bench.device(), x) == expected);
      bench.result("zeros", static_cast<double>(count_zeros(bench.device(), x)));
    });
  }
}

BOOST_AUTO_TEST_SUITE_END()
