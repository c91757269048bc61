#include <lnfree/core/random.hpp>

#include <cmath>
#include <cstdint>
#include <vector>

#include <boost/test/unit_test.hpp>

using namespace lnfree;

BOOST_AUTO_TEST_SUITE(random_numbers)

// The known answers of Random123 (Salmon et al.) for philox4x32-10. Counter words are (position, stream), key
// words the seed, each low word first.
BOOST_AUTO_TEST_CASE(philox_known_answers) {
  BOOST_TEST((Philox(0, 0)(0) == Philox::Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  BOOST_TEST((Philox(~std::uint64_t{0}, ~std::uint64_t{0})(~std::uint64_t{0}) ==
              Philox::Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  BOOST_TEST((Philox(0x299f31d0a4093822, 0x0370734413198a2e)(0x85a308d3243f6a88) ==
              Philox::Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

BOOST_AUTO_TEST_CASE(streams_differ) {
  BOOST_TEST((Philox(1, 0)(0) != Philox(2, 0)(0)));
  BOOST_TEST((Philox(1, 0)(0) != Philox(1, 1)(0)));
  BOOST_TEST((Philox(1, 0)(0) != Philox(1, 0)(1)));
  BOOST_TEST(stream_of("h.0.attn.c_attn.weight") != stream_of("h.1.attn.c_attn.weight"));
}

// FNV-1a's published test vectors.
BOOST_AUTO_TEST_CASE(stream_names_are_fnv_1a) {
  BOOST_TEST(stream_of("") == 0xcbf29ce484222325u);
  BOOST_TEST(stream_of("a") == 0xaf63dc4c8601ec8cu);
  BOOST_TEST(stream_of("foobar") == 0x85944171f73967e8u);
}

BOOST_AUTO_TEST_CASE(normal_numbers_have_the_right_moments) {
  constexpr Index count = 1'000'000;
  std::vector<double> values(count);
  fill_normal(values.data(), count, 2.0, Philox(7, 3));
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, neighbors = 0;
  for (Index i = 0; i < count; ++i) {
    const double z = values[i] / 2.0;
    m1 += z;
    m2 += z * z;
    m3 += z * z * z;
    m4 += z * z * z * z;
    if (i > 0) neighbors += z * values[i - 1] / 2.0;
  }
  // Five standard errors of each mean: sqrt(Var(z^k) / n) with variances 1, 2, 15, 96, 1.
  const double n = static_cast<double>(count);
  BOOST_TEST(std::abs(m1 / n) < 5 * std::sqrt(1 / n));
  BOOST_TEST(std::abs(m2 / n - 1) < 5 * std::sqrt(2 / n));
  BOOST_TEST(std::abs(m3 / n) < 5 * std::sqrt(15 / n));
  BOOST_TEST(std::abs(m4 / n - 3) < 5 * std::sqrt(96 / n));
  BOOST_TEST(std::abs(neighbors / n) < 5 * std::sqrt(1 / n));
}

BOOST_AUTO_TEST_CASE(normal_numbers_do_not_depend_on_the_count) {
  std::vector<double> all(64);
  fill_normal(all.data(), 64, 1.0, Philox(5, 9));
  for (const Index count : {0, 1, 2, 3, 5, 7, 63}) {
    std::vector<double> some(static_cast<std::size_t>(count) + 1, -99.0);
    fill_normal(some.data(), count, 1.0, Philox(5, 9));
    for (Index i = 0; i < count; ++i) BOOST_TEST(some[i] == all[i]);
    BOOST_TEST(some.back() == -99.0);
  }
  std::vector<double> later(20);
  fill_normal(later.data(), 20, 1.0, Philox(5, 9), 44);
  for (std::size_t i = 0; i < later.size(); ++i) BOOST_TEST(later[i] == all[44 + i]);
  std::vector<float> single(64);
  fill_normal(single.data(), 64, 1.0, Philox(5, 9));
  for (std::size_t i = 0; i < 64; ++i) BOOST_TEST(single[i] == static_cast<float>(all[i]));
}

BOOST_AUTO_TEST_SUITE_END()
