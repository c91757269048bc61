#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/checkpoint/folder.hpp>
#include <lnfree/checkpoint/gpt_neox.hpp>
#include <lnfree/checkpoint/safetensors.hpp>
#include <lnfree/core/config.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/nn/parameter.hpp>

/// A model's weights in files.
namespace lnfree {

/// The array `values` on the device, which is laid out like `parameter`, as a tensor for save_safetensors().
template <class Model>
NamedTensor named_tensor(Model& model, const Parameter<typename Model::Device>& parameter,
                         const typename Model::Accumulator* values) {
  return {parameter.name, parameter.shape, [&model, &parameter, values] {
            std::vector<typename Model::Accumulator> host(static_cast<std::size_t>(parameter.size()));
            copy_to_host(model.device(), host.data(), values,
                         host.size() * sizeof(typename Model::Accumulator));
            return std::vector<float>(host.begin(), host.end());
          }};
}

/// Writes the weights of a model to a .safetensors file.
template <class Model>
void save_weights(Model& model, const std::filesystem::path& path) {
  std::vector<NamedTensor> tensors;
  for (const auto& parameter : model.parameters().all())
    tensors.push_back(named_tensor(model, parameter, parameter.master));
  save_safetensors(path, tensors);
}

/// A tensor that was found in a file, with lnfree's name and in lnfree's layout.
struct StoredTensor : NamedTensor {
  std::string name_in_file;  ///< Its name in the file.

  /// The name for messages.
  std::string title() const {
    const bool is_same = name_in_file == name || name_in_file == "transformer." + name;
    return excerpt(name) + (is_same ? "" : " (there " + excerpt(name_in_file) + ")");
  }
};

/// A tensor in one of the files that hold a model's weights.
struct TensorPlace {
  std::shared_ptr<const SafetensorsFile> file;  ///< The file.
  TensorInfo tensor;                            ///< The tensor in it.
};

/// The tensors that a model.safetensors.index.json lists, from the files beside it that it names. Throws
/// Error if a file is missing or lacks a tensor.
inline std::vector<TensorPlace> read_index(const std::filesystem::path& path) {
  const Json index = read_json_object(path);
  const Json map = index.value("weight_map", Json());
  if (!map.is_object() || map.empty())
    throw Error(path.string() + " is damaged: it has no weight_map from tensors to files");
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> files;
  std::vector<TensorPlace> places;
  for (const auto& [name, value] : map.items()) {
    const std::string file_name = value.is_string() ? value.get<std::string>() : "";
    const std::string entry =
        path.string() + " names " + excerpt(value.dump()) + " as the file of tensor " + excerpt(name);
    // A file in another folder does not belong to the model.
    if (!file_name.ends_with(".safetensors") ||
        file_name.find_first_of(std::string_view("/\0", 2)) != std::string::npos)
      throw Error(entry + "; the name of a .safetensors file beside it was expected");
    auto& file = files[file_name];
    if (file == nullptr) {
      const std::filesystem::path place = path.parent_path() / file_name;
      if (!path_exists(place)) throw Error(entry + ", which is not there; copy all files of the model");
      file = std::make_shared<const SafetensorsFile>(SafetensorsFile::open(place));
    }
    const TensorInfo* tensor = file->find(name);
    if (tensor == nullptr) throw Error(entry + ", which does not hold it");
    places.push_back({file, *tensor});
  }
  return places;
}

/// The tensors in a .safetensors file, in the files of an index, or in the folder of a model, which has one
/// of the two. Throws Error if there are none or a file is damaged.
inline std::vector<TensorPlace> find_tensors(const std::filesystem::path& path) {
  constexpr const char* as_safetensors = "; let transformers save its pytorch_model.bin as safetensors";
  if (is_folder(path)) {
    const auto single = path / "model.safetensors", index = path / "model.safetensors.index.json";
    if (path_exists(single)) return find_tensors(single);
    if (path_exists(index)) return read_index(index);
    const auto has = [&](const char* name) { return path_exists(path / name); };
    refuse_run_folder(path);
    throw Error(path.string() +
                " holds no weights: neither model.safetensors nor model.safetensors.index.json" +
                (has("pytorch_model.bin") || has("pytorch_model.bin.index.json") ? as_safetensors : ""));
  }
  if (path.filename().string().starts_with("pytorch_model"))
    throw Error(path.string() +
                " holds pickled tensors of PyTorch, which are not read; let transformers save the model as "
                "safetensors");
  if (path.extension() == ".json") return read_index(path);
  const auto file = std::make_shared<const SafetensorsFile>(SafetensorsFile::open(path));
  std::vector<TensorPlace> places;
  for (const TensorInfo& tensor : file->tensors()) places.push_back({file, tensor});
  return places;
}

/// The weights that find_tensors() finds in a file or folder, of lnfree, a GPT-2 of transformers (whose names
/// may have the prefix "transformer.") or a GPT-NeoX with `heads` heads. Buffers that are not weights are
/// left out. The numbers are read when they are used. Throws Error for a type that cannot be read.
inline std::vector<StoredTensor> read_weights(const std::filesystem::path& path, int heads) {
  std::vector<StoredTensor> result;
  std::map<std::string, std::string> found;
  for (TensorPlace& place : find_tensors(path)) {
    const std::string& there = place.tensor.name;
    std::string name = there;
    constexpr std::string_view prefix = "transformer.";
    if (name.starts_with(prefix)) name.erase(0, prefix.size());
    if (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") || gpt_neox::is_buffer(name))
      continue;
    place.file->check_type(place.tensor);

    StoredTensor tensor;
    tensor.name_in_file = there;
    tensor.shape = place.tensor.shape;
    auto storage = gpt_neox::Storage::same;
    if (const auto neox = gpt_neox::our_name(name)) {
      name = neox->name;
      storage = neox->storage;
    }
    if (storage != gpt_neox::Storage::same) std::reverse(tensor.shape.begin(), tensor.shape.end());
    if (storage == gpt_neox::Storage::per_head &&
        (tensor.shape.empty() || tensor.shape.back() % (3 * heads) != 0)) {
      throw Error(path.string() + ", tensor " + excerpt(there) + ": " + shape_text(place.tensor.shape) +
                  " does not hold queries, keys and values of " + std::to_string(heads) + " heads");
    }
    if (const auto [twin, is_new] = found.emplace(name, there); !is_new) {
      throw Error(path.string() + " holds the same tensor twice, as " + excerpt(twin->second) + " and as " +
                  excerpt(there));
    }
    tensor.name = name;
    tensor.data = [place, storage, heads, shape = tensor.shape] {
      return gpt_neox::to_ours(place.file->read(place.tensor), storage, shape, heads);
    };
    result.push_back(std::move(tensor));
  }
  return result;
}

/// Whether a parameter of that name belongs to a decoder, with any policies; all others belong to an
/// objective.
inline bool is_of_decoder(std::string_view name) {
  constexpr std::array prefixes =
      std::to_array<std::string_view>({"h.", "wte.", "wpe.", "ln_f.", "lm_head.", "act."});
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

/// What load_weights() does with the parameters of an objective that the model does not have.
enum class ObjectiveWeights { refused, ignored };

/// What load_weights() does if the file lacks parameters that only a norm that is removed during training
/// has: its settings, and the separate norm of the values. A run that begins from a model with plain norms
/// initializes them.
enum class MissingParameters { refused, initialized };

/// Loads the weights that read_weights() finds in a file or folder into a model of the same architecture. The
/// copy of a tied output matrix is ignored. The position table may have any number of rows of at least the
/// context, since no other row is used. Throws Error, naming the first tensor that differs, and then leaves
/// the model unchanged.
template <class Model>
void load_weights(Model& model, const std::filesystem::path& path,
                  ObjectiveWeights of_objective = ObjectiveWeights::refused,
                  MissingParameters missing = MissingParameters::refused) {
  const DecoderConfig& config = model.config;
  auto& parameters = model.parameters();
  std::map<std::string, StoredTensor> stored;
  for (StoredTensor& tensor : read_weights(path, config.heads)) {
    if (config.tied_output && tensor.name == "lm_head.weight") continue;
    std::string name = tensor.name;
    stored.emplace(std::move(name), std::move(tensor));
  }
  const auto differs = [&](const std::string& name, const std::string& how) {
    return Error(path.string() + " is of another architecture than this program: tensor " + name + " " + how);
  };
  const bool starts = missing == MissingParameters::initialized;
  std::vector<StoredTensor> found;  // in the order of the parameters; empty for one that is not changed
  for (const auto& parameter : parameters.all()) {
    auto node = stored.extract(parameter.name);
    if (node.empty() && starts && parameter.kind == ParameterKind::setting) {
      found.emplace_back();
      continue;
    }
    if (node.empty() && starts && !parameter.starts_as.empty()) {
      const auto twin = std::find_if(found.begin(), found.end(), [&](const StoredTensor& tensor) {
        return tensor.name == parameter.starts_as;
      });
      if (twin != found.end()) {
        found.push_back(StoredTensor(*twin));
        continue;
      }
    }
    if (node.empty()) throw differs(parameter.name, "is missing; expected " + shape_text(parameter.shape));
    const StoredTensor& tensor = found.emplace_back(std::move(node.mapped()));
    const bool positions = parameter.name == "wpe.weight" && tensor.shape.size() == 2 &&
                           tensor.shape[0] >= config.context && tensor.shape[1] == config.width;
    const bool scalar = parameter.kind == ParameterKind::slope && tensor.size() == 1;
    if (tensor.shape != parameter.shape && !positions && !scalar) {
      throw differs(tensor.title(),
                    "is " + shape_text(tensor.shape) + " there, expected " + shape_text(parameter.shape));
    }
    if (parameter.kind == ParameterKind::bias && parameter.trainable < parameter.size()) {
      const std::vector<float> values = tensor.data();
      if (std::any_of(values.begin() + parameter.trainable, values.end(), [](float x) { return x != 0; })) {
        throw differs(parameter.name, "has a bias for the values, where this program has none");
      }
    }
  }
  if (of_objective == ObjectiveWeights::ignored) {
    std::erase_if(stored, [](const auto& tensor) { return !is_of_decoder(tensor.first); });
  }
  if (!stored.empty()) throw differs(stored.begin()->second.title(), "has no counterpart here");

  auto tensor = found.begin();
  for (auto& parameter : parameters.all()) {
    const StoredTensor& from = *tensor++;
    if (from.name.empty()) continue;
    const std::vector<float> values = from.data();
    // Rows of the position table that the file lacks are not changed.
    auto host = parameters.read(model.device(), parameter);
    std::copy_n(values.begin(), std::min(values.size(), host.size()), host.begin());
    parameters.write(model.device(), parameter, host.data());
  }
}

}  // namespace lnfree
