#pragma once

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/nn/parameter.hpp>

namespace lnfree {

/// What can be seen of a model at this moment, by kind, as it goes into metrics.jsonl and evaluation results.
/// What the model does not have or does not observe is left out.
///
///   entropy           head_entropy [layer][head] in nats, nonfinite_rows (EntropyObserver)
///   stream            rms, kurtosis, zeros, each by layer (OutlierObserver)
///   entropy_penalty   penalty of the last training pass, thresholds by head (EntropyRegularizer)
///   slopes            slopes: the learned scalars of the activations, by layer or one for all
///
/// The first two are of the passes since the observer's last reset.
template <class Model>
Json observations(Model& model) {
  Json seen = Json::object();
  const auto& observer = model.observer();
  if constexpr (requires { observer.head_entropy(); }) {
    seen["entropy"] = {{"head_entropy", observer.head_entropy()},
                       {"nonfinite_rows", observer.nonfinite_rows()}};
  }
  if constexpr (requires { observer.kurtosis(); }) {
    seen["stream"] = {
        {"rms", observer.rms()}, {"kurtosis", observer.kurtosis()}, {"zeros", observer.zeros()}};
  }
  const auto learned = [&](ParameterKind kind) {
    Json values = Json::array();
    for (const auto& parameter : model.parameters().all()) {
      if (parameter.kind != kind) continue;
      for (const auto value : model.parameters().read(model.device(), parameter)) values.push_back(value);
    }
    return values;
  };
  if constexpr (EntropyRegularizing<typename Model::Observer>) {
    seen["entropy_penalty"] = {{"penalty", observer.penalty()},
                               {"thresholds", learned(ParameterKind::threshold)}};
  }
  if (Json slopes = learned(ParameterKind::slope); !slopes.empty()) seen["slopes"] = {{"slopes", slopes}};
  return seen;
}

}  // namespace lnfree
