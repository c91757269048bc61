#pragma once

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/nn/parameter.hpp>

namespace lnfree {

/// What can be seen of a model at this moment, by kind, as it goes into metrics.jsonl and evaluation results:
///
///   entropy   head_entropy [layer][head] in nats, nonfinite_rows: of the passes since the observer's last
///   reset slopes    the learnable scalars of the activations, by layer, or the one that all layers share
///
/// What the model does not have or does not observe is left out.
template <class Model>
Json observations(Model& model) {
  Json seen = Json::object();
  if constexpr (Model::Observer::observes_entropy) {
    seen["entropy"] = {{"head_entropy", model.observer().head_entropy()},
                       {"nonfinite_rows", model.observer().nonfinite_rows()}};
  }
  if constexpr (LearnableActivation<typename Model::Activation>) {
    Json slopes = Json::array();
    for (const auto& parameter : model.parameters().all()) {
      if (parameter.kind == ParameterKind::slope)
        slopes.push_back(model.parameters().read(model.device(), parameter).front());
    }
    seen["slopes"] = {{"slopes", slopes}};
  }
  return seen;
}

}  // namespace lnfree
