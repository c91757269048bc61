#pragma once

#include <nlohmann/json.hpp>

namespace lnfree {

/// The library's only JSON type: keys keep their order. (A second type would compile a second parser into
/// every program.)
using Json = nlohmann::ordered_json;

}  // namespace lnfree
