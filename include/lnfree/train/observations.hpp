#pragma once

#include <string>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/nn/parameter.hpp>

namespace lnfree {

/// Calls a part's report(f) or report(parameters, device, f), whichever it has, and stores what it reports
/// under the part's name. Parts without a report or a name are skipped.
template <class Part, class Model>
void add_report(Json& seen, const Part& part, Model& model) {
  const auto keep = [](const char*, const auto&) {};
  constexpr bool of_passes = requires { part.report(keep); };
  constexpr bool of_parameters = requires { part.report(model.parameters(), model.device(), keep); };
  if constexpr (requires { part.for_each_part([](const auto&) {}); }) {
    part.for_each_part([&](const auto& one) { add_report(seen, one, model); });
  } else if constexpr (Named<Part> && (of_passes || of_parameters)) {
    Json& of_part = seen[std::string(Part::name)];
    const auto add = [&](const auto& series, const auto& value) { of_part[std::string(series)] = value; };
    if constexpr (of_passes) {
      part.report(add);
    } else {
      part.report(model.parameters(), model.device(), add);
    }
  }
}

/// The present observations of a model, as written to metrics.jsonl and evaluation results: the reports of
/// each observer on the passes since its last reset, the report of the objective, and "slopes", the learned
/// scalars of the activations, by layer or one for all. What the model does not have or does not observe is
/// left out.
template <class Model>
Json observations(Model& model) {
  Json seen = Json::object();
  add_report(seen, model.observer(), model);
  add_report(seen, model.objective(), model);
  Json slopes = Json::array();
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.kind != ParameterKind::slope) continue;
    for (const auto value : model.parameters().read(model.device(), parameter)) slopes.push_back(value);
  }
  if (!slopes.empty()) seen["slopes"] = {{"slopes", slopes}};
  return seen;
}

}  // namespace lnfree
