#pragma once

#include <memory>
#include <string>
#include <utility>

#include <lnfree/core/fingerprint.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/objective/objective.hpp>

namespace lnfree {

/// Makes `model`, on the student's device, the teacher of Distillation. It is a Decoder or DynamicDecoder of
/// any architecture with the student's vocabulary, built with Purpose::evaluation for batches as large and as
/// long as the student's. Each pass of the student adds a forward pass of the teacher.
template <class Model>
auto teacher_of(std::shared_ptr<Model> model) {
  using Scalar = typename Model::Scalar;
  return [model = std::move(model), x = Matrix<const Scalar>()](
             typename Model::Device&, const TrainingPass& pass, Index first_row, Index rows) mutable {
    if (first_row == 0) x = model->last_hidden(pass.shape, pass.tokens);
    return model->logits_of(x.slice(first_row, rows));
  };
}

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
