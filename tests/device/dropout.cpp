#include "device/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

BOOST_AUTO_TEST_SUITE(device_dropout)

// The same elements on every device and thread count, and again when the call is repeated on a gradient.
BOOST_AUTO_TEST_CASE_TEMPLATE(agrees, D, Devices) {
  for (const Index rows : {1, 7, 128, 384, 1024}) {
    for (const Index cols : {1, 5, 17, 64, 100}) {
      for (const double rate : {0.1, 0.5}) {
        check<D>(sizes(rows, cols), [&](auto& bench) {
          const Philox random(seed(), stream_of("mask"));
          auto x = bench.scalars("x", rows, cols);
          auto d_y = bench.scalars("d_y", rows, cols);
          dropout(bench.device(), x, rate, random);
          dropout(bench.device(), d_y, rate, random);
          bench.result("x", x);
          bench.result("d_x", d_y);
        });
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(drops_the_rate_and_scales_the_rest, D, Devices) {
  LNFREE_LOG_SEED();
  constexpr Index count = 99'999;
  const std::vector<double> ones(count, 1.0);
  for (const double rate : {0.1, 0.5}) {
    Workbench<D> bench(seed());
    const auto mask = [&](std::uint64_t stream) {
      auto x = bench.scalars(ones, 1, count);
      dropout(bench.device(), x, rate, Philox(seed(), stream));
      return bench.download(x.data, count);
    };
    const auto first = mask(1), again = mask(1), other = mask(2);
    Index dropped = 0;
    bool all_scaled = true;
    for (const auto value : first) {
      dropped += value == 0;
      all_scaled =
          all_scaled && (value == 0 || std::abs(value - 1 / (1 - rate)) < std::max(1e-6, rounding<D>));
    }
    BOOST_TEST(all_scaled);
    // Six standard deviations.
    const double deviation = std::sqrt(count * rate * (1 - rate));
    BOOST_TEST(std::abs(static_cast<double>(dropped) - count * rate) < 6 * deviation);
    BOOST_TEST((first == again));
    BOOST_TEST((first != other));
  }
}

BOOST_AUTO_TEST_SUITE_END()
