#include <sstream>
#include <string>

#include <boost/test/unit_test.hpp>

#include <lnfree/core/json.hpp>

using namespace lnfree;

BOOST_AUTO_TEST_SUITE(json_text)

BOOST_AUTO_TEST_CASE(what_is_read) {
  const auto nested = [](int depth) {
    const auto count = static_cast<std::size_t>(depth);
    return std::string(count, '[') + "1" + std::string(count, ']');
  };
  std::istringstream stream(R"({"b": [1, {}], "a": null})");
  BOOST_TEST(parse_json(stream).dump() == R"({"b":[1,{}],"a":null})");
  BOOST_TEST(parse_json(nested(max_json_depth)).is_array());
  for (const std::string& text :
       {nested(max_json_depth + 1), nested(1000000), std::string("[1"), std::string()})
    BOOST_TEST(parse_json(text).is_discarded());
}

BOOST_AUTO_TEST_SUITE_END()
