#include "lnfree/core/fingerprint.hpp"

#include <boost/test/unit_test.hpp>
#include <set>
#include <string>

using lnfree::fingerprint;

BOOST_AUTO_TEST_SUITE(fingerprints)

// Fingerprints are stored in files, so they must not change between versions.
BOOST_AUTO_TEST_CASE(stays_what_it_was) {
  BOOST_TEST(fingerprint("") == "4fca8392b9747d0c");
  BOOST_TEST(fingerprint("def f(x):\n    return x\n") == "b6d2544e9f45108b");
  BOOST_TEST(fingerprint(std::string(1000, 'x')) == "5c695e1bb863e4cd");
}

BOOST_AUTO_TEST_CASE(every_byte_counts) {
  std::set<std::string> seen;
  std::size_t contents = 0;
  const auto add = [&](const std::string& bytes) {
    const std::string digits = fingerprint(bytes);
    BOOST_TEST(digits.size() == 16u);
    BOOST_TEST(digits.find_first_not_of("0123456789abcdef") == std::string::npos);
    seen.insert(digits);
    ++contents;
  };
  for (std::size_t size = 0; size < 200; ++size) add(std::string(size, '\0'));
  for (std::size_t at = 0; at < 200; ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bytes(200, '\0');
      bytes[at] = static_cast<char>(1 << bit);
      add(bytes);
    }
  BOOST_TEST(seen.size() == contents);
}

BOOST_AUTO_TEST_CASE(parts_make_the_whole) {
  std::string bytes;
  for (int i = 0; i < 1000; ++i) bytes += static_cast<char>(i * i);
  for (const std::size_t size : {0, 63, 64, 65, 128, 999, 1000})
    for (const std::size_t first : {64, 128, 640}) {
      const std::string_view all = std::string_view(bytes).substr(0, size);
      lnfree::Fingerprint parts;
      if (first < size) parts.add(all.substr(0, first));
      parts.add(all.substr(first < size ? first : 0));
      BOOST_TEST(parts.text() == fingerprint(all));
    }
}

BOOST_AUTO_TEST_SUITE_END()
