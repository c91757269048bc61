#include "lnfree/core/excerpt.hpp"

#include <boost/test/unit_test.hpp>
#include <string>

using lnfree::excerpt;
using lnfree::printable;
using namespace std::string_literals;

BOOST_AUTO_TEST_SUITE(excerpts)

BOOST_AUTO_TEST_CASE(what_cannot_be_printed_is_spelled_out) {
  BOOST_TEST(printable("caf\xC3\xA9 \\x \"quoted\"") == "caf\xC3\xA9 \\x \"quoted\"");
  BOOST_TEST(printable("caf\xE9.py") == "caf\\xe9.py");
  BOOST_TEST(printable("a\nb\tc\x7F\0"s) == "a\\x0ab\\x09c\\x7f\\x00");
  BOOST_TEST(printable("\xE2\x82") == "\\xe2\\x82");
}

BOOST_AUTO_TEST_CASE(a_long_text_loses_its_middle) {
  BOOST_TEST(excerpt(std::string(300, 'a')) == std::string(300, 'a'));
  BOOST_TEST(excerpt("start" + std::string(5'000'000, 'a') + "end") ==
             "start" + std::string(195, 'a') + "..." + std::string(97, 'a') + "end");
  // No character is cut in two.
  std::string euros;
  for (int i = 0; i < 1000; ++i) euros += "\xE2\x82\xAC";
  for (std::size_t bytes = 10; bytes < 20; ++bytes) {
    const std::string quoted = excerpt(euros, bytes);
    BOOST_TEST(!lnfree::find_invalid_utf8(quoted).has_value());
    BOOST_TEST(quoted.find('\\') == std::string::npos);
    BOOST_TEST(quoted.size() <= bytes + 3);
  }
  BOOST_TEST(excerpt(std::string(1000, '\x80')).size() < 1300u);
}

BOOST_AUTO_TEST_SUITE_END()
