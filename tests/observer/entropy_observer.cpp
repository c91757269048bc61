#include <lnfree/observer/entropy_observer.hpp>

#include <cmath>
#include <cstdint>

#include <boost/test/unit_test.hpp>

using namespace lnfree;

BOOST_AUTO_TEST_SUITE(entropy_observer)

BOOST_AUTO_TEST_CASE(means_run_over_finite_rows_of_all_passes) {
  EntropyObserver observer(2, 2);
  // (L, B, H) sums and counts of B = 2 sequences of 4 tokens.
  const float sums[] = {1, 2, 3, 4, 5, 6, 7, 8};
  const std::int32_t finite[] = {4, 4, 4, 4, 4, 3, 4, 0};
  observer.record({2, 4}, sums, finite);
  const auto close = boost::test_tools::tolerance(1e-15);
  BOOST_TEST(observer.head_entropy(0, 0) == (1.0 + 3) / 8, close);
  BOOST_TEST(observer.head_entropy(0, 1) == (2.0 + 4) / 8, close);
  BOOST_TEST(observer.head_entropy(1, 0) == (5.0 + 7) / 8, close);
  BOOST_TEST(observer.head_entropy(1, 1) == (6.0 + 8) / 3, close);
  BOOST_TEST(observer.nonfinite_rows() == 1 + 4);

  const double later[] = {10, 0, 0, 0};
  const std::int32_t later_finite[] = {2, 0, 0, 0};
  observer.record({1, 4}, later, later_finite);
  BOOST_TEST(observer.head_entropy(0, 0) == (1.0 + 3 + 10) / 10, close);
  BOOST_TEST(observer.nonfinite_rows() == 5 + 2 + 4 + 4 + 4);
  BOOST_TEST(observer.head_entropy()[1][1] == observer.head_entropy(1, 1));

  observer.reset();
  BOOST_TEST(observer.nonfinite_rows() == 0);
  BOOST_TEST(std::isnan(observer.head_entropy(0, 0)));
}

BOOST_AUTO_TEST_SUITE_END()
