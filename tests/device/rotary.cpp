#include <cmath>

#include "device/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

BOOST_AUTO_TEST_SUITE(device_rotary)

BOOST_AUTO_TEST_CASE_TEMPLATE(agrees, D, Devices) {
  for (const auto& [length, first] : {std::pair{1, 0}, {7, 0}, {7, 6}, {256, 0}, {256, 100}}) {
    for (const int dims : {2, 4, 16}) {
      for (const bool inverse : {false, true}) {
        const AttentionShape shape{3, length, 2, 16, first};
        check<D>(sizes(length, first, dims), [&](auto& bench) {
          auto qkv = bench.scalars("qkv", shape.rows(), 3 * shape.width());
          rotary(bench.device(), shape, dims, qkv, inverse);
          bench.result("qkv", qkv);
        });
      }
    }
  }
}

// One head of three pairs of channels, of which two are rotated, by t and by t / 100 radians.
BOOST_AUTO_TEST_CASE_TEMPLATE(pairs_turn_by_their_angles, D, Devices) {
  const AttentionShape shape{2, 9, 1, 6};
  Workbench<D> bench(seed());
  const auto qkv = bench.scalars("qkv", shape.rows(), 18);
  const auto before = bench.download(qkv.data, qkv.size());
  rotary(bench.device(), shape, 4, qkv, false);
  const auto after = bench.download(qkv.data, qkv.size());
  const auto close = boost::test_tools::tolerance(std::max(1e-5, 2 * rounding<D>));
  for (Index i = 0; i < shape.rows(); ++i) {
    for (Index j = 0; j < 18; ++j) {
      const Index part = j / 6, channel = j % 6;
      const auto at = [&](Index c) { return static_cast<double>(before[i * 18 + part * 6 + c]); };
      double expected = at(channel);
      if (part < 2 && channel < 4) {
        const double angle = static_cast<double>(i % 9) * (channel % 2 == 0 ? 1 : 0.01);
        const Index other = (channel + 2) % 4;
        expected = at(channel) * std::cos(angle) + (channel < 2 ? -1 : 1) * at(other) * std::sin(angle);
      }
      BOOST_TEST(1 + static_cast<double>(after[i * 18 + j]) - expected == 1.0, close);
    }
  }
  rotary(bench.device(), shape, 4, qkv, true);
  const auto back = bench.download(qkv.data, qkv.size());
  for (std::size_t i = 0; i < back.size(); ++i)
    BOOST_TEST(1 + static_cast<double>(back[i]) - static_cast<double>(before[i]) == 1.0, close);
}

BOOST_AUTO_TEST_SUITE_END()
