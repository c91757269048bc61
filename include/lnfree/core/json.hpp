#pragma once

#include <filesystem>
#include <utility>

#include <nlohmann/json.hpp>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/files.hpp>

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

/// The JSON object in a file. Throws Error if the file cannot be read, is not a regular file or holds
/// anything else.
inline Json read_json_object(const std::filesystem::path& path) {
  Json json = parse_json(read_text(path, "a JSON object"));
  if (!json.is_object()) throw Error(excerpt(path.native()) + " is damaged: it holds no JSON object");
  return json;
}

}  // namespace lnfree
