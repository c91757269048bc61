#pragma once

#include <nlohmann/json.hpp>

namespace lnfree {

/// The one JSON type of the library: keys keep their order. (A second type would compile a second parser into
/// every program.)
using Json = nlohmann::ordered_json;

}  // namespace lnfree
