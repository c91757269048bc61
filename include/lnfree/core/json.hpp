#pragma once

#include <utility>

#include <nlohmann/json.hpp>

namespace lnfree {

/// The library's only JSON type: keys keep their order. (A second type would compile a second parser into
/// every program.)
using Json = nlohmann::ordered_json;

/// The most objects and lists within one another that are read. Copying, comparing and printing take a stack
/// frame for each, so that a hostile file could overflow the stack; sane files nest a few.
inline constexpr int max_json_depth = 64;

/// Parses a text or a stream. The result is_discarded() if that is not JSON, or is nested too deeply.
template <class Input>
Json parse_json(Input&& input) {
  struct TooDeep {};
  const auto check = [](int depth, Json::parse_event_t, Json&) {
    if (depth > max_json_depth) throw TooDeep();
    return true;
  };
  try {
    return Json::parse(std::forward<Input>(input), check, /*allow_exceptions=*/false);
  } catch (const TooDeep&) {
    return Json(Json::value_t::discarded);
  }
}

}  // namespace lnfree
