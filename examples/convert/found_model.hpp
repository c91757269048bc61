#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/checkpoint/architecture.hpp>
#include <lnfree/checkpoint/fold.hpp>
#include <lnfree/checkpoint/llm_c.hpp>
#include <lnfree/checkpoint/tensor_shapes.hpp>
#include <lnfree/checkpoint/weights.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/files.hpp>

#include "../configurations.hpp"

namespace convert {

using namespace lnfree;

/// A model that was read, with lnfree's names and tensor layout.
struct FoundModel {
  Architecture architecture;
  NamedTensors tensors;
  std::vector<std::string>
      of_objective;  ///< Names of tensors that belong to an objective; no logit depends on them.
};

/// The tensors of the model in `path`. Throws Error for a part that lnfree does not know.
inline std::vector<TensorShape> shapes_of(const Architecture& architecture,
                                          const std::filesystem::path& path) {
  try {
    return tensor_shapes<configurations::Policies>(architecture);
  } catch (const Error& error) {
    throw Error((model_folder(path) / "config.json").string() + ": " + error.what());
  }
}

/// Matches the tensors with the architecture. Throws Error naming the first that is missing, unexpected or of
/// another shape.
inline FoundModel checked(const std::filesystem::path& path, Architecture architecture,
                          std::vector<StoredTensor> stored) {
  FoundModel model{std::move(architecture), {}, {}};
  std::map<std::string, StoredTensor> left;
  for (StoredTensor& tensor : stored) {
    std::string name = tensor.name;
    left.emplace(std::move(name), std::move(tensor));
  }
  for (const auto& [name, shape] : shapes_of(model.architecture, path)) {
    const auto found = left.find(name);
    if (found == left.end()) {
      throw Error(path.string() + " lacks a tensor that its architecture has: " + name + ", expected " +
                  shape_text(shape));
    }
    StoredTensor& tensor = found->second;
    if (tensor.size() == 1 && size_of(shape) == 1) tensor.shape = shape;  // a scalar slope
    if (tensor.shape != shape) {
      throw Error(path.string() + ", tensor " + tensor.title() + ": it is " + shape_text(tensor.shape) +
                  ", but its architecture has " + shape_text(shape));
    }
    model.tensors.emplace(name, std::move(tensor));
    left.erase(found);
  }
  if (model.architecture.sizes.tied_output) left.erase("lm_head.weight");  // a copy
  for (auto& [name, tensor] : left) {
    if (model.architecture.objective.empty()) {
      throw Error(path.string() + " holds a tensor that its architecture does not have: " + tensor.title() +
                  " of " + shape_text(tensor.shape));
    }
    model.of_objective.push_back(name);
    model.tensors.emplace(name, std::move(tensor));
  }
  return model;
}

inline FoundModel read_model(const std::filesystem::path& path) {
  if (!is_folder(path)) {
    if (llm_c::is_model_file(path)) {
      auto model = llm_c::read_model(path);
      return checked(path, std::move(model.architecture), std::move(model.tensors));
    }
    if (path.extension() != ".safetensors" && path.extension() != ".json" &&
        !path.filename().string().starts_with("pytorch_model")) {
      throw Error(
          path.string() +
          " is not a model: expected a folder, a .safetensors file, a model.safetensors.index.json or a "
          "model file of llm.c");
    }
  }
  const std::filesystem::path present = is_folder(path) ? present_checkpoint(path) : path;
  Architecture architecture = read_architecture(model_folder(present));
  std::vector<StoredTensor> tensors = read_weights(present, architecture.sizes.heads);
  return checked(present, std::move(architecture), std::move(tensors));
}

/// Sets the context length.
inline void set_context(FoundModel& model, int context) {
  DecoderConfig& sizes = model.architecture.sizes;
  if (context > sizes.position_rows()) {
    throw Error("--context " + std::to_string(context) + " is more than the " +
                std::to_string(sizes.position_rows()) + " positions of the model");
  }
  sizes.positions = sizes.rotary_dims > 0 || context == sizes.position_rows() ? 0 : sizes.position_rows();
  sizes.context = context;
}

/// Drops the rows of the position table beyond the context, which lnfree never reads: other programs assume
/// that every row was trained.
inline void trim_positions(FoundModel& model) {
  DecoderConfig& sizes = model.architecture.sizes;
  sizes.positions = 0;
  const auto found = model.tensors.find("wpe.weight");
  if (found == model.tensors.end() || found->second.shape[0] == sizes.context) return;
  NamedTensor& table = found->second;
  table.shape[0] = sizes.context;
  table.data = [whole = table.data, size = static_cast<std::size_t>(table.size())] {
    std::vector<float> values = whole();
    values.resize(size);
    return values;
  };
}

/// Adds zero biases where the model has none, for programs that require them.
inline void add_zero_biases(FoundModel& model) {
  model.architecture.sizes.biases = Biases::all;
  for (const auto& [name, shape] : tensor_shapes<configurations::Policies>(model.architecture)) {
    if (model.tensors.contains(name)) continue;
    const auto size = static_cast<std::size_t>(size_of(shape));
    model.tensors.emplace(name, NamedTensor{name, shape, [size] { return std::vector<float>(size); }});
  }
}

/// Drops the parameters of an objective.
inline void drop_objective(FoundModel& model) {
  for (const std::string& name : model.of_objective) model.tensors.erase(name);
  model.of_objective.clear();
  model.architecture.objective.clear();
}

/// Folds removed norms into the matrices.
inline void fold(FoundModel& model, const std::filesystem::path& path) {
  drop_objective(model);
  try {
    fold_norms(model.architecture, model.tensors);
  } catch (const Error& error) {
    throw Error(path.string() + ": " + error.what());
  }
}

/// The tensors in the order of the architecture, those of an objective at the end.
inline std::vector<NamedTensor> in_order(const FoundModel& model) {
  std::vector<NamedTensor> result;
  for (const auto& [name, shape] : tensor_shapes<configurations::Policies>(model.architecture))
    result.push_back(model.tensors.at(name));
  for (const std::string& name : model.of_objective) result.push_back(model.tensors.at(name));
  return result;
}

}  // namespace convert
