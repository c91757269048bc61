#pragma once

#include <string>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/nn/parameter.hpp>

namespace lnfree {

/// What an observer reports, under its name; nothing of one that has no report or no name.
template <class O>
void add_report(Json& seen, const O& observer) {
  if constexpr (requires { observer.for_each_part([](const auto&) {}); }) {
    observer.for_each_part([&](const auto& part) { add_report(seen, part); });
  } else if constexpr (Named<O> && requires { observer.report([](const char*, const auto&) {}); }) {
    Json& of_observer = seen[std::string(O::name)];
    observer.report([&](const char* series, const auto& value) { of_observer[series] = value; });
  }
}

/// What can be seen of a model at this moment, by kind, as it goes into metrics.jsonl and evaluation results:
/// what each observer reports, of the passes since its last reset; what the objective reports; and "slopes",
/// the learned scalars of the activations, by layer or one for all. What the model does not have or does not
/// observe is left out.
template <class Model>
Json observations(Model& model) {
  Json seen = Json::object();
  add_report(seen, model.observer());
  if constexpr (requires {
                  model.objective().report(model.parameters(), model.device(),
                                           [](const char*, const auto&) {});
                }) {
    Json& of_objective = seen[std::string(Model::Objective::name)];
    model.objective().report(model.parameters(), model.device(),
                             [&](const char* series, const auto& value) { of_objective[series] = value; });
  }
  Json slopes = Json::array();
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.kind != ParameterKind::slope) continue;
    for (const auto value : model.parameters().read(model.device(), parameter)) slopes.push_back(value);
  }
  if (!slopes.empty()) seen["slopes"] = {{"slopes", slopes}};
  return seen;
}

}  // namespace lnfree
