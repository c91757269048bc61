#pragma once

#include <string>

#include <lnfree/core/fingerprint.hpp>

namespace lnfree {

/// A fingerprint of a model's weights: equal weights have equal fingerprints.
template <class Model>
std::string weights_fingerprint(Model& model) {
  std::string all;
  for (const auto& parameter : model.parameters().all()) {
    const auto values = model.parameters().read(model.device(), parameter);
    all += parameter.name +
           fingerprint({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0])});
  }
  return fingerprint(all);
}

}  // namespace lnfree
