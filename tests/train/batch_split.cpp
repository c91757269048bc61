#include <lnfree/train/batch_split.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>

#include <boost/test/unit_test.hpp>

#include "support/seed.hpp"

using namespace lnfree;

BOOST_AUTO_TEST_SUITE(batch_split)

BOOST_AUTO_TEST_CASE(the_paper_s_step) {
  // 3 bytes whatever the batch, and 10 for each window.
  const auto bytes = [](int batch) { return 3 + 10 * static_cast<std::size_t>(batch); };
  const auto batch = [&](std::size_t available) {
    const auto split = largest_split(512, available, bytes);
    return split ? split->batch_size : 0;
  };
  BOOST_TEST(batch(12) == 0);
  BOOST_TEST(batch(13) == 1);
  BOOST_TEST(batch(13 + 9) == 1);
  BOOST_TEST(batch(1282) == 64);
  BOOST_TEST(batch(1283) == 128);
  BOOST_TEST(batch(5123) == 512);
  BOOST_TEST(batch(std::numeric_limits<std::size_t>::max()) == 512);
}

// Compared with trying every batch size.
BOOST_AUTO_TEST_CASE(the_largest_divisor_that_fits) {
  LNFREE_LOG_SEED();
  std::mt19937_64 random(test::seed());
  for (int round = 0; round < 200; ++round) {
    const int windows = 1 + static_cast<int>(random() % 1000);
    const std::size_t each = 1 + random() % 50, available = random() % 60000;
    int best = 0;
    for (int b = 1; b <= windows; ++b) {
      if (windows % b == 0 && b * each <= available) best = b;
    }
    const auto split = largest_split(windows, available, [&](int b) { return b * each; });
    BOOST_TEST(split.has_value() == (best > 0));
    if (!split) continue;
    BOOST_TEST(split->batch_size == best);
    BOOST_TEST(split->batch_size * split->accumulate == windows);
  }
}

// Windows of a step that do not fit in an int.
BOOST_AUTO_TEST_CASE(numbers_stay_in_range) {
  const std::int64_t most = std::numeric_limits<int>::max();
  const auto split = largest_split(4 * most, 1, [](int) { return std::size_t{1}; });
  BOOST_REQUIRE(split.has_value());
  BOOST_TEST(std::int64_t{split->batch_size} * split->accumulate == 4 * most);
}

BOOST_AUTO_TEST_SUITE_END()
