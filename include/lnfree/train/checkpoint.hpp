#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <lnfree/checkpoint/architecture.hpp>
#include <lnfree/checkpoint/folder.hpp>
#include <lnfree/checkpoint/safetensors.hpp>
#include <lnfree/checkpoint/weights.hpp>
#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/optim/optimizer.hpp>

/// A checkpoint is a folder:
///
///   model.safetensors      the weights, with the names and the (in, out) layout of a Hugging Face GPT-2
///   config.json            the architecture, in the keys of a Hugging Face GPT-2 config and a few more
///   optimizer.safetensors  the optimizer's state: AdamW's moments are "m." and "v." before the tensor's name
///   trainer.json           everything else needed to continue exactly where the run stopped
namespace lnfree {

/// Writes a checkpoint to `folder`, replacing the one there in one step: a process that dies while saving
/// leaves the previous checkpoint intact. `state` becomes trainer.json; the optimizer's name and its update
/// count are added to it.
template <class Model, Optimizer<Model> O>
void save_checkpoint(const std::filesystem::path& folder, Model& model, const O& optimizer, Json state) {
  write_checkpoint(folder, [&](const std::filesystem::path& fresh) {
    save_weights(model, fresh / "model.safetensors");
    std::vector<NamedTensor> kept;
    optimizer.for_each_state([&](const std::string& name, const auto& parameter, const auto* values) {
      kept.push_back({name + "." + parameter.name, parameter.shape, [&optimizer, &parameter, values] {
                        const auto host = optimizer.read_state(parameter, values);
                        return std::vector<float>(host.begin(), host.end());
                      }});
    });
    save_safetensors(fresh / "optimizer.safetensors", kept);
    write_file(fresh / "config.json", to_json(architecture_of(model)).dump(2) + "\n");
    state["optimizer"] = O::name;
    state["updates"] = optimizer.updates();
    write_file(fresh / "trainer.json", state.dump(2) + "\n");
  });
}

/// Restores the weights from a checkpoint. Throws Error if its architecture differs, naming the first tensor
/// or else the first key of config.json that differs; the model is then unchanged.
template <class Model>
void load_checkpoint(const std::filesystem::path& folder, Model& model) {
  const std::filesystem::path present = present_checkpoint(folder);
  const std::string difference = architecture_difference(architecture_of(model), present);
  if (!difference.empty()) throw Error(difference);
  load_weights(model, present / "model.safetensors");
}

/// Also restores the optimizer. Throws Error if the checkpoint was made with another optimizer.
template <class Model, Optimizer<Model> O>
void load_checkpoint(const std::filesystem::path& folder, Model& model, O& optimizer) {
  const Json state = read_checkpoint_state(folder);
  const std::int64_t updates = checkpoint_count(folder, state, "updates");
  // Earlier versions had only AdamW and did not store its name.
  const Json saved = state.value("optimizer", Json("adamw"));
  if (saved != O::name) {
    throw Error(folder.string() + " was made with the optimizer " + excerpt(saved.dump()) + ", not \"" +
                std::string(O::name) + "\"; resume with the same one");
  }
  // Checked before the tensors, whose differences would follow from another architecture.
  const std::string difference = architecture_difference(architecture_of(model), present_checkpoint(folder));
  if (!difference.empty()) throw Error(difference);
  const SafetensorsFile file = SafetensorsFile::open(present_checkpoint(folder) / "optimizer.safetensors");
  const auto stored = [&](const std::string& name, const auto& parameter) {
    const TensorInfo* tensor = file.find(name + "." + parameter.name);
    if (tensor == nullptr || tensor->shape != parameter.shape) {
      throw Error(file.path().string() + " does not belong to this program: tensor " + name + "." +
                  parameter.name + " is missing or of another shape");
    }
    return tensor;
  };
  optimizer.for_each_state(
      [&](const std::string& name, const auto& parameter, auto*) { stored(name, parameter); });
  load_checkpoint(folder, model);
  optimizer.for_each_state([&](const std::string& name, const auto& parameter, auto* values) {
    const std::vector<float> numbers = file.read(*stored(name, parameter));
    const std::vector<typename Model::Accumulator> converted(numbers.begin(), numbers.end());
    optimizer.write_state(parameter, values, converted.data());
  });
  optimizer.set_updates(updates);
}

}  // namespace lnfree
